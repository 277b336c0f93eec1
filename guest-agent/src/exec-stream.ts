import type { ExecStart__Output } from '../../proto/generated/agent/caisson/agent/v1/ExecStart.ts';
import { cgroupProcesses, killCgroup } from './cgroup.ts';
import { requireRunning } from './containers.ts';
import { forgetExec, startExec, type ExecProcess } from './exec-process.ts';
import { kill } from './kill.ts';
import { inputSink, pipeInput, type ProcessInput } from './process-input.ts';
import { drain, forward, forwardPipe, type ForwardedOutput } from './process-output.ts';
import type { StreamCall } from './stream-call.ts';
import { Terminal } from './terminal.ts';

const SIGHUP = 1;
/** for what a command does at SIGHUP */
const LEAVE_GRACE_MS = 2000;

/** Runs a command for a client; when the client leaves, the command ends. Throws as `launch` does. */
export async function execStream(start: ExecStart__Output, call: StreamCall): Promise<void> {
  const container = requireRunning(start.container_id);
  const started = await startExec(container, { ...start, size: start.size ?? undefined });
  const { exited, cgroup } = started;
  await using undo = new AsyncDisposableStack();
  undo.defer(() => forgetExec(container, cgroup));
  const { outputs, input, terminal } = connect(started, call);
  undo.defer(() => outputs.forEach(({ socket }) => socket.destroy()));
  if (terminal === undefined) undo.defer(() => input?.end());
  call.started();
  let ended = false;
  call.control({
    resize: (columns, rows) => terminal?.resize(columns, rows),
    // afterwards the pid may be another process's
    signal: (signal) => void (ended || kill(started.pid, signal)),
  });
  const hangUp = (): void => void leave(started, terminal);
  call.left.addEventListener('abort', hangUp, { once: true });
  if (call.left.aborted) hangUp();
  const end = await exited;
  ended = true;
  call.left.removeEventListener('abort', hangUp);
  if (call.left.aborted) await killCgroup(cgroup);
  call.exit(end);
  await drain(outputs, call.left);
  await call.endOutputs();
}

interface Connected {
  readonly outputs: readonly ForwardedOutput[];
  readonly input: ProcessInput | undefined;
  readonly terminal: Terminal | undefined;
}

function connect({ streams }: ExecProcess, call: StreamCall): Connected {
  const terminal = streams.terminal === undefined ? undefined : new Terminal(streams.terminal);
  const input = terminal ?? (streams.stdin === undefined ? undefined : pipeInput(streams.stdin));
  if (input) call.input.pipe(inputSink(input));
  else call.input.resume();
  const { STDOUT, STDERR } = call.outputs;
  const outputs = [
    ...(terminal ? [forward(terminal.socket, STDOUT)] : []),
    ...(streams.stdout === undefined ? [] : [forwardPipe(streams.stdout, STDOUT)]),
    ...(streams.stderr === undefined ? [] : [forwardPipe(streams.stderr, STDERR)]),
  ];
  return { outputs, input, terminal };
}

/** As when a terminal is closed: its input has ended already; what it still prints goes nowhere. */
async function leave({ cgroup, exited }: ExecProcess, terminal: Terminal | undefined): Promise<void> {
  terminal?.socket.destroy();
  for (const pid of await cgroupProcesses(cgroup)) kill(pid, SIGHUP);
  const grace = setTimeout(() => void killCgroup(cgroup), LEAVE_GRACE_MS);
  await exited;
  clearTimeout(grace);
}
