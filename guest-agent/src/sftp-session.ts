import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Socket } from 'node:net';
import type { SftpStart__Output } from '../../proto/generated/agent/caisson/agent/v1/SftpStart.ts';
import { CaissonError } from '../../src/lib/errors.ts';
import { requireRunning, type Container } from './containers.ts';
import { mappingsOf } from './id-mapping.ts';
import type { ProcessEnd } from './native.ts';
import { drain, forward } from './process-output.ts';
import { startChild } from './reaper.ts';
import type { OciProcess } from './spec.ts';
import type { SftpArguments } from './sftp/main.ts';
import type { StreamCall } from './stream-call.ts';

/** each is a Node of its own */
const MAX_SESSIONS = 8;
const MAX_HEAP_MIB = 48;

let sessions = 0;

/** Runs an SFTP server for a client; it ends with the client, or with the container. */
export async function sftpSession({ container_id }: SftpStart__Output, call: StreamCall): Promise<void> {
  const container = requireRunning(container_id);
  if (sessions >= MAX_SESSIONS)
    throw new CaissonError('resource_exhausted', `the pod has ${MAX_SESSIONS} SFTP sessions already`);
  sessions++;
  try {
    await serve(container, call);
  } finally {
    sessions--;
  }
}

async function serve(container: Container, call: StreamCall): Promise<void> {
  const child = start(container);
  const ended = endOf(child);
  const kill = (): void => void child.kill('SIGKILL');
  container.exitWatchers.add(kill);
  call.left.addEventListener('abort', kill, { once: true });
  if (call.left.aborted) kill();
  try {
    const { stdin, stdout, stderr } = child;
    if (!stdin || !stdout || !stderr) throw new CaissonError('internal', 'the SFTP server has no streams');
    stdin.on('error', () => stdin.destroy()); // it has ended
    call.input.pipe(stdin);
    const outputs = [forward(socketOf(stdout), call.outputs.STDOUT), forward(socketOf(stderr), call.outputs.STDERR)];
    call.started();
    call.exit(await ended);
    await drain(outputs, call.left);
    await call.endOutputs();
  } finally {
    container.exitWatchers.delete(kill);
    kill();
  }
}

/** What spawn makes of a pipe. */
const socketOf = (stream: Readable): Socket => stream as Socket;

function start({ pid, spec }: Container): ChildProcess {
  const program = join(import.meta.dirname, 'sftp.cjs');
  const node = [process.execPath, `--max-old-space-size=${MAX_HEAP_MIB}`, program];
  // descriptors, because a pid may soon be another's
  const mounts = openSync(`/proc/${pid}/ns/mnt`, 'r');
  const users = openSync(`/proc/${pid}/ns/user`, 'r');
  try {
    // Node cannot enter a user namespace itself: that is for processes of one thread
    const enter = mappingsOf(spec) ? ['/usr/bin/busybox', 'nsenter', '-U/proc/self/fd/4', '-S0', '-G0', '--'] : [];
    const all = [...enter, ...node, JSON.stringify(argumentsOf(spec.process))];
    const [command = ''] = all;
    return startChild(command, all.slice(1), { stdio: ['pipe', 'pipe', 'pipe', mounts, users], env: {} });
  } finally {
    closeSync(mounts);
    closeSync(users);
  }
}

/** Those that count for files. */
const CAPABILITIES: Readonly<Record<string, number>> = {
  CAP_CHOWN: 0,
  CAP_DAC_OVERRIDE: 1,
  CAP_DAC_READ_SEARCH: 2,
  CAP_FOWNER: 3,
  CAP_FSETID: 4,
  CAP_LINUX_IMMUTABLE: 9,
};

const ROOT = { uid: 0, gid: 0 };

function argumentsOf({ env, user = ROOT, capabilities = {} }: OciProcess): SftpArguments {
  const { uid, gid, additionalGids = [] } = user;
  const home = env.find((entry) => entry.startsWith('HOME='))?.slice('HOME='.length);
  return {
    uid,
    gid,
    groups: additionalGids,
    capabilities: (capabilities.effective ?? []).flatMap((name) => CAPABILITIES[name] ?? []),
    home: home === undefined || home === '' ? '/' : home,
  };
}

function endOf(child: ChildProcess): Promise<ProcessEnd> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve({ code: code ?? 128, signal: signal === 'SIGKILL' ? 9 : 0 }));
  });
}
