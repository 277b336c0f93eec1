/** A session: one shell, command or file transfer, after what the client has asked for beforehand. */
import type { ServerChannel, Session } from 'ssh2';
import { CaissonError, describeError, isCaissonError } from '../lib/errors.ts';
import type { ProcessSession, TerminalSize } from '../pod/contracts.ts';
import { audit } from './audit.ts';
import { ChannelEnds } from './channel-ends.ts';
import type { Client } from './client.ts';
import { codeOfError, exitMessage, plainWords, SHELL, shellCommand, signalNumber } from './commands.ts';
import { Environment } from './environment.ts';
import { runProcess, type Ending } from './run-process.ts';
import { containerOf, podOf, vmOf } from './target.ts';

/** Missing when the client wants no answer. */
type Reply = (() => void) | undefined;

type Wanted =
  | { readonly channel: 'shell' }
  | { readonly channel: 'exec'; readonly command: string }
  | { readonly channel: 'sftp' };

interface Terminal {
  readonly term: string;
  size: TerminalSize;
}

const MAX_CELLS = 65_535;

/** Never rejects; returns when the session is over. */
export async function serveSession(session: Session, client: Client): Promise<void> {
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const environment = new Environment(client.options.acceptEnv);
  let terminal: Terminal | undefined;
  let running: ProcessSession | undefined;
  let begun = false;
  // the channel is taken at once: ssh2 drops what comes before
  const begin = (accept: () => ServerChannel | undefined, wanted: Wanted): void => {
    const channel = begun ? undefined : accept();
    if (!channel) return;
    begun = true;
    const ends = new ChannelEnds(channel, client);
    const request = { wanted, terminal, env: environment.values };
    const onOpen = (process: ProcessSession): void => {
      running = process;
      if (terminal) process.resize(terminal.size); // it may have changed since
    };
    void serve(ends, client, request, onOpen).finally(end);
  };
  session.on('env', (accept: Reply, reject: Reply, { key, val }) => (environment.set(key, val) ? accept : reject)?.());
  session.on('pty', (accept: Reply, reject: Reply, { cols, rows, ...info }) => {
    if (!client.permits.pty) return reject?.();
    // the type declarations leave the name out
    const { term } = info as { readonly term?: string };
    terminal = { term: term ?? '', size: sizeOf(cols, rows) };
    accept?.();
  });
  session.on('window-change', (accept: Reply, _reject, { cols, rows }) => {
    if (terminal) terminal.size = sizeOf(cols, rows);
    if (terminal) running?.resize(terminal.size);
    accept?.();
  });
  session.on('signal', (accept: Reply, _reject, { name }) => {
    const number = signalNumber(name);
    if (number !== undefined) running?.signal(number);
    accept?.();
  });
  session.on('shell', (accept) => begin(accept, { channel: 'shell' }));
  session.on('exec', (accept, _reject, { command }) => begin(accept, { channel: 'exec', command }));
  session.on('subsystem', (accept, reject: Reply, { name }) => {
    if (name === 'sftp') begin(accept, { channel: 'sftp' });
    else reject?.();
  });
  // it may never become more than a session
  const giveUp = (): void => {
    if (!begun) end();
  };
  session.on('close', giveUp);
  client.gone.addEventListener('abort', giveUp, { once: true });
  await ended;
  client.gone.removeEventListener('abort', giveUp);
}

const sizeOf = (columns: number, rows: number): TerminalSize => ({
  columns: Math.min(columns, MAX_CELLS),
  rows: Math.min(rows, MAX_CELLS),
});

interface SessionRequest {
  readonly wanted: Wanted;
  readonly terminal: Terminal | undefined;
  readonly env: Readonly<Record<string, string>>;
}

/** Never rejects. */
async function serve(
  ends: ChannelEnds,
  client: Client,
  request: SessionRequest,
  onOpen: (process: ProcessSession) => void,
): Promise<void> {
  const { wanted, terminal } = request;
  const tty = wanted.channel !== 'sftp' && terminal !== undefined;
  const report = audit(client.log, { ...wanted, target: client.target, tty });
  let target: SessionTarget | undefined;
  let ending: Ending;
  try {
    const meant = find(client);
    target = meant;
    ending = await runProcess(ends, (signal) => open(client, meant, { ...request, tty }, signal), onOpen);
  } catch (error) {
    ending = { error };
  }
  if ('exit' in ending) await ends.close(exitMessage(ending.exit));
  else await tellError(ends, ending.error, { newline: tty ? '\r\n' : '\n', hasTarget: target !== undefined });
  report(ends, { ...target, ...('exit' in ending ? { ...ending.exit } : ending) });
}

async function tellError(
  ends: ChannelEnds,
  error: unknown,
  { newline, hasTarget }: { readonly newline: string; readonly hasTarget: boolean },
): Promise<void> {
  ends.stderr.write(`caisson: ${describeError(error)}${newline}`);
  await ends.close({ code: codeOfError(error, hasTarget) });
}

/** Without a container it is the VM itself. */
interface SessionTarget {
  readonly sandboxId: string;
  readonly containerId?: string;
}

function find({ target, permits, options: { pods, vmAccess } }: Client): SessionTarget {
  const pod = vmOf(target);
  if (pod === undefined) return containerOf(pods, target, permits);
  if (vmAccess) return { sandboxId: podOf(pods, pod, permits).sandboxId };
  throw new CaissonError(
    'permission_denied',
    "the VMs themselves are closed: ssh.vm_access is not set in the daemon's configuration",
  );
}

type OpenRequest = SessionRequest & { readonly tty: boolean };

async function open(
  { options: { pods } }: Client,
  { sandboxId, containerId }: SessionTarget,
  { wanted, terminal, env, tty }: OpenRequest,
  signal: AbortSignal,
): Promise<ProcessSession> {
  if (wanted.channel === 'sftp') {
    if (containerId === undefined) throw new CaissonError('unimplemented', 'of a VM itself, files are not served');
    return await pods.sftp(containerId, signal);
  }
  const variables = tty && terminal && terminal.term !== '' ? { TERM: terminal.term, ...env } : env;
  const run = async (command: readonly string[]): Promise<ProcessSession> => {
    const size = tty && terminal ? { size: terminal.size } : {};
    const streams = { stdin: true, stdout: true, stderr: !tty, tty };
    const exec = { command, ...streams, env: variables, ...size };
    if (containerId === undefined) return await pods.vmExec(sandboxId, exec, signal);
    return await pods.execStream(containerId, exec, signal);
  };
  if (wanted.channel === 'shell') return await run(SHELL);
  try {
    return await run(shellCommand(wanted.command));
  } catch (error) {
    const words = isCaissonError(error, 'not_found') ? plainWords(wanted.command) : undefined;
    if (!words) throw error;
    return await run(words);
  }
}
