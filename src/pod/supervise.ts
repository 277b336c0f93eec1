import type { AgentClient, AgentExit } from '../agent/contracts.ts';
import type { Vm } from '../vm/contracts.ts';
import type { LiveSandbox, PodContext } from './context.ts';
import type { TimestampNs } from './contracts.ts';
import { nowNs } from './records.ts';
import { noSamples } from './stats/sampler.ts';

const KILLED_EXIT_CODE = 137;

/** From now on the sandbox is served; when its VM ends by itself, it and its containers are told so. */
export function goLive(context: PodContext, id: string, vm: Vm, agent: AgentClient): LiveSandbox {
  const live: LiveSandbox = {
    vm,
    agent,
    samples: noSamples(),
    counters: () => context.network.counters(vm.record.pid),
    stopping: false,
    standstill: undefined,
    unknown: false,
    share: undefined,
  };
  context.liveSandboxes.set(id, live);
  void vm.exited.then(({ reason }) => {
    if (!context.closing && !live.stopping && context.liveSandboxes.get(id) === live) loseVm(context, id, live, reason);
  });
  return live;
}

export function standStill(live: LiveSandbox): void {
  live.standstill ??= Promise.withResolvers();
}

export function goOn(live: LiveSandbox): void {
  live.standstill?.resolve();
  live.standstill = undefined;
}

/** The sandbox and its containers are told why they are no more. */
export function loseVm(context: PodContext, id: string, live: LiveSandbox, reason: string): void {
  context.log.error({ sandboxId: id, reason }, 'the VM of a pod has ended');
  context.sandboxes.observe(id, { state: 'notready', reason: `VMDied: ${reason}`, paused: false });
  goOn(live);
  endContainers(context, id, 'VMDied', reason);
  // the vsock helper may outlive QEMU and keep calls waiting
  live.agent[Symbol.dispose]();
  live.vm
    .disconnect()
    .catch((error: unknown) => context.log.warn({ err: error, sandboxId: id }, 'a dead VM was not left'));
}

/** Marks every container of a sandbox whose VM is gone as exited. */
export function endContainers(context: PodContext, sandboxId: string, reason: string, message: string): void {
  for (const [id, record] of [...context.containers.entries()]) {
    if (record.sandboxId !== sandboxId) continue;
    if (record.state === 'running' || record.state === 'unknown' || record.state === 'created') {
      const finishedAt = record.state === 'created' ? record.finishedAt : nowNs();
      context.containers.observe(id, {
        state: 'exited',
        finishedAt,
        exitCode: KILLED_EXIT_CODE,
        reason,
        message,
        paused: false,
      });
    }
  }
}

export function recordExit(context: PodContext, id: string, exit: AgentExit): void {
  if (!context.containers.has(id)) return;
  const { state, startedAt } = context.containers.get(id);
  if (state === 'exited') return;
  const reason = exit.oomKilled ? 'OOMKilled' : exit.code === 0 ? 'Completed' : 'Error';
  const exitCode = exit.code & 0xff;
  context.containers.observe(id, {
    state: 'exited',
    finishedAt: within(startedAt, exit.finishedAtNs, nowNs()),
    exitCode,
    reason,
    message: '',
    paused: false,
  });
}

/** The guest's word for when it was, as far as it can be true; `0`: it has none, and it was now. */
function within(start: TimestampNs, told: string, now: TimestampNs): TimestampNs {
  const time = BigInt(told);
  if (time <= 0n || time > BigInt(now)) return now;
  return time < BigInt(start) ? start : told;
}
