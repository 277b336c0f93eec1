import type { AgentExit } from '../agent/contracts.ts';
import { CaissonError, describeError, isCaissonError, isErrno } from '../lib/errors.ts';
import { annotate, traced } from '../lib/trace.ts';
import { requireLive } from './live.ts';
import type { PodContext } from './context.ts';
import { ContainerLog } from './log-writer.ts';
import { nowNs, type ContainerRecord } from './records.ts';
import { followContainer } from './follow-container.ts';

const NOT_FOUND_EXIT = 127;
const NOT_EXECUTABLE_EXIT = 126;
const START_FAILED_EXIT = 128;

const goesOn = new AbortController().signal;

/**
 * Starts a created container. When its command cannot run, the container ends with the shell's exit code for that.
 * A caller that goes away changes nothing: the guest may have started it, so how that ends is to be known.
 */
export async function startContainer(context: PodContext, id: string): Promise<void> {
  await context.locks.run(id, async () => {
    const record = context.containers.get(id);
    if (record.state !== 'created') {
      throw new CaissonError(
        'failed_precondition',
        `container ${id} is ${record.state}, only a created one can be started`,
      );
    }
    annotate({ sandboxId: record.sandboxId });
    const live = requireLive(context, record.sandboxId);
    const log = record.logPath === '' ? undefined : await traced('pod: open log', () => openLog(record));
    let exited: Promise<AgentExit>;
    try {
      ({ exited } = await live.agent.startContainer(id, goesOn));
    } catch (error) {
      await log?.end();
      throw startFailed(context, id, error);
    }
    context.containers.observe(id, { state: 'running', startedAt: nowNs() });
    followContainer(context, id, live.agent, log, exited);
    context.sampler.soon(live);
  });
}

async function openLog({ logPath, metadata }: ContainerRecord): Promise<ContainerLog> {
  try {
    return await ContainerLog.open(logPath);
  } catch (error) {
    const code = isErrno(error, 'ENOSPC') ? 'resource_exhausted' : 'failed_precondition';
    throw new CaissonError(code, `log_path of container ${metadata.name}: ${describeError(error)}`, { cause: error });
  }
}

function startFailed(context: PodContext, id: string, error: unknown): Error {
  const words = describeError(error);
  const exitCode = isCaissonError(error, 'not_found')
    ? NOT_FOUND_EXIT
    : isCaissonError(error, 'permission_denied')
      ? NOT_EXECUTABLE_EXIT
      : START_FAILED_EXIT;
  const time = nowNs();
  context.containers.observe(id, {
    state: 'exited',
    startedAt: time,
    finishedAt: time,
    exitCode,
    reason: 'StartError',
    message: words,
  });
  // not_found would mean that there is no such container
  const code = isCaissonError(error) && exitCode === START_FAILED_EXIT ? error.code : 'failed_precondition';
  return new CaissonError(code, `container ${context.containers.get(id).metadata.name} cannot start: ${words}`, {
    cause: error,
  });
}
