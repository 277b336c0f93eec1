/** What the node's kernel says about a VM's processes: no guest is asked, and none can lie. */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { isErrno } from '../../lib/errors.ts';
import { ignoreMissing } from '../../lib/files.ts';

/** fields of /proc/pid/stat behind the name, counted from the state */
const UTIME = 11;
const STIME = 12;
const START = 19;
const RSS_PAGES = 21;
const PAGE_BYTES = 4096;
/** USER_HZ, which is the same on all x86 kernels */
const TICK_MS = 10;

const processSchema = z.object({ pid: z.int().positive(), startTicks: z.string() });

/** Of verbose PodSandboxStatus, what is used here. */
export const podInfoSchema = z.object({
  vm: processSchema.extend({ helperPids: z.array(processSchema).default([]) }).nullable(),
  vcpus: z.number(),
  memoryMib: z.number(),
  agent: z.object({ roundTripMs: z.number().nullable(), silentMs: z.number() }).nullable(),
});
export type PodInfo = z.infer<typeof podInfoSchema>;

export interface VmUsage {
  readonly atMs: number;
  /** processor time so far, of QEMU and its helpers */
  readonly cpuMs: number;
  readonly rssBytes: number;
}

/** Undefined when QEMU is gone. */
export async function vmUsage({ vm }: PodInfo): Promise<VmUsage | undefined> {
  if (!vm) return undefined;
  const [qemu, ...helpers] = await Promise.all([vm, ...vm.helperPids].map(processUsage));
  if (!qemu) return undefined;
  const all = [qemu, ...helpers.filter((one) => one !== undefined)];
  return {
    atMs: performance.now(),
    cpuMs: all.reduce((sum, { cpuMs }) => sum + cpuMs, 0),
    rssBytes: all.reduce((sum, { rssBytes }) => sum + rssBytes, 0),
  };
}

/** Per cent of one processor. */
export function cpuPercent(before: VmUsage | undefined, now: VmUsage): number | null {
  if (!before || now.atMs <= before.atMs) return null;
  return (Math.max(0, now.cpuMs - before.cpuMs) / (now.atMs - before.atMs)) * 100;
}

async function processUsage({ pid, startTicks }: z.infer<typeof processSchema>) {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(gone);
  // the name in parentheses may hold anything, so count from its end
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (!fields || fields[START] !== startTicks) return undefined;
  const number = (index: number): number => Number(fields[index]);
  return { cpuMs: (number(UTIME) + number(STIME)) * TICK_MS, rssBytes: number(RSS_PAGES) * PAGE_BYTES };
}

function gone(error: unknown): undefined {
  if (isErrno(error, 'ESRCH')) return undefined;
  return ignoreMissing(undefined)(error);
}
