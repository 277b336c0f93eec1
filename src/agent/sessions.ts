import { Duplex } from 'node:stream';
import type { StreamRequest } from '../../proto/generated/agent/caisson/agent/v1/StreamRequest.ts';
import { CaissonError } from '../lib/errors.ts';
import type { AgentSession, ExecSettings, StreamSelection } from './contracts.ts';
import { StreamCall, type RawCall } from './stream-call.ts';

/** Those of one client, so that they end with it. */
export type OpenCalls = Set<{ fail(error: CaissonError): void }>;

export function execStart(settings: ExecSettings): StreamRequest {
  const { containerId, command, env, tty, stdin, stdout, stderr, size } = settings;
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  return {
    exec: {
      container_id: containerId,
      command: [...command],
      env: variables,
      ...{ tty, stdin, stdout, stderr },
      ...(size && { size }),
    },
  };
}

export function attachStart(containerId: string, { stdin, stdout, stderr }: StreamSelection): StreamRequest {
  return { attach: { container_id: containerId, stdin, stdout, stderr } };
}

/** stderr: why it ended, for the daemon's log */
export const SFTP_STREAMS: StreamSelection = { stdin: true, stdout: true, stderr: true };

export function sftpStart(containerId: string): StreamRequest {
  return { sftp: { container_id: containerId } };
}

/** Returns when the agent has said that it is open. */
export async function openSession(
  rpc: string,
  raw: RawCall,
  start: StreamRequest,
  wanted: StreamSelection,
  calls: OpenCalls,
  signal: AbortSignal,
): Promise<AgentSession> {
  const call = await open(rpc, raw, start, calls, signal);
  const { stdin, stdout, stderr, exited } = call;
  if (!wanted.stdin) stdin.end();
  if (!wanted.stdout) stdout.resume();
  if (!wanted.stderr) stderr.resume();
  return {
    stdin: wanted.stdin ? stdin : undefined,
    stdout: wanted.stdout ? stdout : undefined,
    stderr: wanted.stderr ? stderr : undefined,
    exited,
    resize: (size) => call.resize(size),
    signal: (number) => call.signal(number),
    [Symbol.asyncDispose]: async () => call.fail(new CaissonError('cancelled', 'the client has left')),
  };
}

/** A connection to a port of the pod; destroying it breaks the connection off. */
export async function openPort(raw: RawCall, port: number, calls: OpenCalls, signal: AbortSignal): Promise<Duplex> {
  const call = await open('PortForward', raw, { port_forward: { port } }, calls, signal);
  call.stderr.resume();
  const duplex = Duplex.from({ readable: call.stdout, writable: call.stdin });
  duplex.on('error', () => undefined); // also when nobody listens, as after the VM's death
  duplex.once('close', () => {
    // when both halves have ended, what was written last is still under way
    if (!duplex.readableEnded || !duplex.writableFinished)
      call.fail(new CaissonError('cancelled', 'the connection was given up'));
  });
  return duplex;
}

async function open(
  rpc: string,
  raw: RawCall,
  start: StreamRequest,
  calls: OpenCalls,
  signal: AbortSignal,
): Promise<StreamCall> {
  const call = new StreamCall(rpc, raw, start, () => calls.delete(call));
  calls.add(call);
  const abort = (): void => call.fail(new CaissonError('cancelled', 'the caller has left', { cause: signal.reason }));
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  try {
    await call.started;
    return call;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
