import { join } from 'node:path';
import { z } from 'zod';
import { release } from 'node:os';
import { CaissonError, describeError, isCaissonError } from '../lib/errors.ts';
import { run } from '../lib/exec.ts';
import { exists, readFileIfExists, writeFileAtomic } from '../lib/files.ts';
import type { Logger } from '../lib/logger.ts';
import type { Accelerator, VmSpec } from './contracts.ts';
import { bootMachine, type BootOptions } from './boot.ts';

export interface AcceleratorChoice {
  readonly kind: Accelerator;
  /** QEMU's `-cpu` */
  readonly cpuModel: string;
  /** why this one, for people */
  readonly reason: string;
}

/** TCG runs `rep movsb` byte by byte; without these two flags kernel and libc copy by larger steps. */
const TCG_CPU = 'max,-erms,-fsrm';
/** `host` alone makes QEMU abort on hosts that hide the capability register from their guests. */
const KVM_CPUS = ['host', 'host,-arch-capabilities'];
/** A kernel under working KVM prints within a fraction of a second: 5 s are enough where 90 s are for a boot. */
const FIRST_WORD_SHARE = 18;

export interface ProbeOptions {
  readonly wanted: 'auto' | Accelerator;
  readonly boot: Omit<BootOptions, 'accelerator' | 'cpuModel'>;
  /** remembers the answer, for this host kernel and QEMU */
  readonly memoryFile: string;
  readonly directory: string;
  readonly probeSpec: VmSpec;
  readonly log: Logger;
}

/** KVM if a guest really boots with it, else TCG: /dev/kvm existing proves nothing (design.md, section 6). */
export async function chooseAccelerator(options: ProbeOptions, signal: AbortSignal): Promise<AcceleratorChoice> {
  if (options.wanted === 'tcg') return { kind: 'tcg', cpuModel: TCG_CPU, reason: 'the configuration says so' };
  if (!(await exists('/dev/kvm'))) {
    if (options.wanted === 'kvm')
      throw new CaissonError('failed_precondition', 'the configuration asks for KVM and there is no /dev/kvm');
    return { kind: 'tcg', cpuModel: TCG_CPU, reason: 'there is no /dev/kvm' };
  }
  const key = `${release()} ${(await run(options.boot.qemu, ['--version'], { installHint: 'run bin/setup' })).stdout.split('\n')[0]}`;
  const remembered = await recall(options.memoryFile, key);
  const choice = remembered ?? (await probe(options, signal));
  if (!remembered) await writeFileAtomic(options.memoryFile, JSON.stringify({ key, choice }));
  if (options.wanted === 'kvm' && choice.kind !== 'kvm') {
    throw new CaissonError('failed_precondition', `the configuration asks for KVM, but ${choice.reason}`);
  }
  return choice;
}

async function probe(options: ProbeOptions, signal: AbortSignal): Promise<AcceleratorChoice> {
  let lastWords = '';
  for (const cpuModel of KVM_CPUS) {
    options.log.info({ cpuModel }, 'probing KVM: booting a guest with it');
    try {
      const watched = {
        firstWordMs: Math.round(options.boot.timeoutMs / FIRST_WORD_SHARE),
        extraKernelArguments: ['loglevel=7'],
      };
      const boot = { ...options.boot, accelerator: 'kvm' as const, cpuModel, ...watched };
      await using _machine = await bootMachine(options.probeSpec, join(options.directory, 'probe'), boot, signal);
      return { kind: 'kvm', cpuModel, reason: 'a guest boots with it' };
    } catch (error) {
      signal.throwIfAborted();
      // something is missing that every VM needs: that says nothing about KVM
      if (isCaissonError(error, 'failed_precondition')) throw error;
      lastWords = describeError(error);
      // only an abort of QEMU over the CPU model is worth another try
      if (!/arch-capabilities|kvm_buf_set_msrs|cpu|CPU|signal SIGABRT/.test(lastWords)) break;
    }
  }
  return { kind: 'tcg', cpuModel: TCG_CPU, reason: `/dev/kvm is there, but no guest boots with it: ${lastWords}` };
}

async function recall(file: string, key: string): Promise<AcceleratorChoice | undefined> {
  const text = await readFileIfExists(file);
  const stored = memorySchema.safeParse(parseJson(text ?? ''));
  if (!stored.success || stored.data.key !== key) return undefined;
  const { choice } = stored.data;
  // only a model of KVM's was found out by trying
  return choice.kind === 'tcg' ? { ...choice, cpuModel: TCG_CPU } : choice;
}

const memorySchema = z.object({
  key: z.string(),
  choice: z.object({ kind: z.enum(['kvm', 'tcg']), cpuModel: z.string(), reason: z.string() }),
});

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // missing or damaged: the probe is made again
  }
}
