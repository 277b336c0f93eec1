import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import type { ExecStreamRequest, PodService, ProcessExit, ProcessSession } from '../../src/pod/contracts.ts';

export const never = new AbortController().signal;

export const allStreams = { stdin: true, stdout: true, stderr: true, tty: false };
export const terminal = { stdin: true, stdout: true, stderr: false, tty: true };

export interface SessionEnd extends ProcessExit {
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command with its streams; `input` is all of its stdin. */
export async function run(
  pods: PodService,
  container: string,
  command: readonly string[],
  input: string | Buffer = '',
  request: Partial<ExecStreamRequest> = {},
): Promise<SessionEnd> {
  await using session = await pods.execStream(container, { command, ...allStreams, ...request }, never);
  session.stdin?.end(input);
  return await ended(session);
}

export async function ended({ stdout, stderr, exited }: ProcessSession): Promise<SessionEnd> {
  const [out, err, exit] = await Promise.all([stdout ? text(stdout) : '', stderr ? text(stderr) : '', exited]);
  return { stdout: out, stderr: err, ...exit };
}

export const outputOf = async ({ stdout }: ProcessSession): Promise<Buffer> =>
  stdout ? await buffer(stdout) : Buffer.alloc(0);

/** Reads on until what came since the last call has `pattern` in it; returns that. */
export function expecting(stream: Readable | undefined): (pattern: RegExp) => Promise<string> {
  if (!stream) throw new Error('there is no such stream');
  let seen = '';
  stream.on('data', (data: Buffer) => {
    seen += data.toString();
    stream.emit('seen');
  });
  stream.once('close', () => stream.emit('seen'));
  return async (pattern) => {
    for (;;) {
      const match = pattern.exec(seen);
      if (match) {
        const passed = seen;
        seen = seen.slice(match.index + match[0].length);
        return passed;
      }
      if (stream.closed) throw new Error(`${pattern} did not come, but ${JSON.stringify(seen.slice(-300))}`);
      await once(stream, 'seen');
    }
  };
}

/** What a script prints that runs as root of the pod's VM, beside the agent, which is process 1 there; `$b` is busybox. */
export async function inVm(pods: PodService, sandboxId: string, script: string): Promise<string> {
  const command = ['/usr/bin/busybox', 'sh', '-c', `b=/usr/bin/busybox; ${script}`];
  await using session = await pods.vmExec(sandboxId, { command, ...allStreams, stdin: false }, never);
  const { stdout, stderr, code } = await ended(session);
  if (code !== 0) throw new Error(`${script} ended with ${code} in the VM: ${stderr}`);
  return stdout;
}

/** Descriptors that the agent has open. */
export const agentFds = async (pods: PodService, sandboxId: string): Promise<number> =>
  Number(await inVm(pods, sandboxId, '$b ls /proc/1/fd | $b wc -l'));
