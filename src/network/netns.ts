import { rm, writeFile } from 'node:fs/promises';
import { describeError, CaissonError, isErrno } from '../lib/errors.ts';
import { run } from '../lib/exec.ts';
import { exists } from '../lib/files.ts';
import { newId, shortId } from '../lib/ids.ts';
import type { PreparedNetns } from './contracts.ts';

const DIRECTORY = '/run/netns';
export const TAP = 'tap0';
export const IPROUTE_HINT = 'apt install iproute2';
const TIMEOUT_MS = 10_000;

export function netnsName(sandboxId: string): string {
  return `caisson-${shortId(sandboxId)}`;
}

export function netnsPathOf(sandboxId: string): string {
  return `${DIRECTORY}/${netnsName(sandboxId)}`;
}

/** Makes /run/netns a mount point that other mount namespaces see, as only `ip netns add` knows how to. */
export async function setUpNetnsDirectory(): Promise<void> {
  const name = `caisson-setup-${shortId(newId())}`;
  await run('ip', ['netns', 'add', name], { timeoutMs: TIMEOUT_MS, installHint: IPROUTE_HINT });
  await run('ip', ['netns', 'del', name], { timeoutMs: TIMEOUT_MS });
}

/**
 * Makes a netns with lo and an up tap that `tapUid` may open by name. `unshare` binds the netns to its file and becomes
 * `ip`: one process where `ip netns add` and `ip -n` are two. The tap gets no IPv6 link-local address, so that the
 * host's kernel never speaks to the guest. Leaves nothing behind when it throws; `already_exists` if the netns does.
 */
export async function makeNetns(sandboxId: string, tapUid: number, signal: AbortSignal): Promise<PreparedNetns> {
  const netnsPath = netnsPathOf(sandboxId);
  await writeFile(netnsPath, '', { flag: 'wx', mode: 0o444 }).catch((error: unknown) => {
    if (isErrno(error, 'EEXIST'))
      throw new CaissonError('already_exists', `netns ${netnsPath} exists`, { cause: error });
    throw error;
  });
  const commands = [
    'link set dev lo up',
    `tuntap add dev ${TAP} mode tap user ${tapUid} vnet_hdr`,
    `link set dev ${TAP} addrgenmode none up`,
  ];
  try {
    await run('unshare', [`--net=${netnsPath}`, 'ip', '-batch', '-'], {
      input: batch(commands),
      timeoutMs: TIMEOUT_MS,
      signal,
      installHint: 'apt install util-linux iproute2',
    });
  } catch (error) {
    await removeNetns(sandboxId);
    throw error;
  }
  return { netnsPath, tapName: TAP };
}

/** Removes the netns, and with it the tap and what is left of the pod's interfaces. Idempotent. */
export async function removeNetns(sandboxId: string): Promise<void> {
  const netnsPath = netnsPathOf(sandboxId);
  if (!(await exists(netnsPath))) return;
  try {
    await run('ip', ['netns', 'del', netnsName(sandboxId)], { timeoutMs: TIMEOUT_MS, installHint: IPROUTE_HINT });
  } catch (error) {
    // the mount may be gone while its file stays, as after a crash between the two
    await rm(netnsPath, { force: true }).catch(() => {
      throw new CaissonError('internal', `cannot remove netns ${netnsPath}: ${describeError(error)}`, { cause: error });
    });
  }
}

/** Runs lines of `ip` in the pod's netns, in one process; returns what they print as JSON, one value per line. */
export async function ipInNetns(sandboxId: string, lines: readonly string[], signal?: AbortSignal): Promise<unknown[]> {
  const { stdout } = await run('ip', ['-json', '-n', netnsName(sandboxId), '-batch', '-'], {
    input: batch(lines),
    timeoutMs: TIMEOUT_MS,
    signal,
    installHint: IPROUTE_HINT,
  });
  return stdout.split('\n').map((line): unknown => (line.trim() === '' ? [] : JSON.parse(line)));
}

/** Runs lines of `tc` in the pod's netns, in one process. */
export async function tcInNetns(sandboxId: string, lines: readonly string[], signal?: AbortSignal): Promise<void> {
  await run('tc', ['-n', netnsName(sandboxId), '-batch', '-'], {
    input: batch(lines),
    timeoutMs: TIMEOUT_MS,
    signal,
    installHint: IPROUTE_HINT,
  });
}

function batch(lines: readonly string[]): string {
  return `${lines.join('\n')}\n`;
}
