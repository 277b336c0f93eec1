import type { Command } from 'commander';
import { CaissonError } from '../../lib/errors.ts';
import { configOf } from '../context.ts';
import { connectDaemon, type DaemonConnection } from '../cri-client.ts';
import { follow, openLog, readFrom } from '../logs/follow.ts';
import { LogPrinter, tailPosition } from '../logs/print.ts';
import { parseSince } from '../logs/since.ts';
import { leaveOnSignals } from '../streams/leaving.ts';
import { statusOf, untilEnded } from './ended.ts';
import { containerName, findContainer, takeInventory } from './target.ts';

interface LogsOptions {
  readonly namespace?: string;
  readonly follow?: true;
  readonly tail?: number;
  readonly since?: string;
  readonly timestamps?: true;
}

/** Reads the file that the daemon names: this runs on the same node. */
export async function logs(target: string, command: Command): Promise<void> {
  const options = command.opts<LogsOptions>();
  const since = options.since === undefined ? '' : parseSince(options.since);
  using leaving = leaveOnSignals();
  using daemon = await connectDaemon((await configOf(command)).socket);
  const { pod, container } = findContainer(await takeInventory(daemon, options.namespace), target);
  const { log_path: path } = await statusOf(daemon, container.id);
  const name = containerName(pod, container);
  if (path === '') throw new CaissonError('failed_precondition', `${name} keeps no log: whoever made it named no file`);
  const position = options.tail === undefined ? 0 : await tailPosition(path, options.tail, since);
  const { stdout, stderr } = process;
  const printer = new LogPrinter({ since, timestamps: options.timestamps === true, stdout, stderr });
  if (options.follow) {
    const over = endOf(daemon, container.id, leaving.signal);
    for await (const chunk of follow(path, position, over.signal)) {
      if (leaving.signal.aborted) break;
      await printer.print(chunk);
    }
    over.rethrow();
  } else await printAll(path, position, printer, name);
  process.exitCode = leaving.exitCode;
}

async function printAll(path: string, position: number, printer: LogPrinter, name: string): Promise<void> {
  const file = await openLog(path);
  if (!file) throw new CaissonError('not_found', `${name} has no log yet, or none any more: ${path} is missing`);
  try {
    for await (const chunk of readFrom(file, position)) await printer.print(chunk);
  } finally {
    await file.close();
  }
}

/** Aborts when the container has ended, or nobody wants to know any more. */
function endOf(daemon: DaemonConnection, id: string, leave: AbortSignal) {
  const controller = new AbortController();
  let failure: unknown;
  void untilEnded(daemon, id, leave)
    .catch((error: unknown) => (failure = leave.aborted ? undefined : error))
    .finally(() => controller.abort());
  return {
    signal: controller.signal,
    /** Throws what kept it from finding out. */
    rethrow: (): void => {
      if (failure instanceof Error) throw failure;
    },
  };
}
