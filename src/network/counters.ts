import { readFile } from 'node:fs/promises';
import { ignoreMissing } from '../lib/files.ts';
import type { InterfaceCounters } from './contracts.ts';

/**
 * What went through an interface of the netns that a process is in, as the host counts it: no guest is asked.
 * Undefined when the process or the interface is gone.
 */
export async function readCounters(pid: number, name: string): Promise<InterfaceCounters | undefined> {
  return parseCounters(await readFile(`/proc/${pid}/net/dev`, 'utf8').catch(ignoreMissing('')), name);
}

/** proc_net_dev(5): eight columns for what was received, eight for what was sent. */
export function parseCounters(table: string, name: string): InterfaceCounters | undefined {
  const line = table.split('\n').find((row) => row.trimStart().startsWith(`${name}:`));
  const columns = line
    ?.slice(line.indexOf(':') + 1)
    .trim()
    .split(/\s+/)
    .map(Number);
  if (!columns || columns.length < 12) return undefined;
  const direction = (first: number) => {
    const [bytes = 0, packets = 0, errors = 0, dropped = 0] = columns.slice(first);
    return { bytes, packets, errors, dropped };
  };
  return { name, received: direction(0), sent: direction(8) };
}
