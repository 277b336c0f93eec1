import { describeError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import type { TemplateStatus } from '../contracts.ts';
import { findTemplate, makeTemplate, type KeeperOptions, type Template } from './keeper.ts';

/** The daemon's template: looked for at once, made in the background when there is none. */
export interface TemplateHolder {
  status(): TemplateStatus;
  /** The template, if it is there; waits for the look, not for the making. */
  current(): Promise<Template | undefined>;
  /** resolves when the first one is there or cannot be made */
  readonly settled: Promise<void>;
  /** Resolves when nothing is being made any more. */
  idle(): Promise<void>;
}

export interface HolderOptions {
  readonly wanted: boolean;
  /** rejects when VMs cannot start at all */
  readonly keeper: () => Promise<KeeperOptions>;
  /** changes when QEMU or the guest image does: then the template is of no use any more */
  readonly fingerprint: () => string;
  /** ends the making */
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/** A template and what it was looked for with. */
interface Generation {
  readonly fingerprint: string;
  readonly looked: Promise<void>;
  readonly settled: Promise<void>;
  template: Template | undefined;
  status: TemplateStatus;
}

export function holdTemplate(options: HolderOptions): TemplateHolder {
  const { log } = options;
  let generation = begin(options, options.fingerprint());
  const { settled } = generation;
  let all = settled;
  return {
    status: () => generation.status,
    settled,
    current: async () => {
      const fingerprint = options.fingerprint();
      if (fingerprint !== generation.fingerprint) {
        log.info({}, 'QEMU or the guest image has changed: another template is needed');
        generation = begin(options, fingerprint);
        const { settled: next } = generation;
        all = all.then(() => next);
      }
      await generation.looked.catch(() => undefined); // whoever starts a VM meets the reason again
      return generation.template;
    },
    idle: () => all,
  };
}

function begin({ wanted, keeper, signal, log }: HolderOptions, fingerprint: string): Generation {
  const look = async (): Promise<void> => {
    const options = await keeper();
    if (wanted) hold(await findTemplate(options));
  };
  const hold = (found: Template | undefined): void => {
    generation.template = found;
    if (found) generation.status = { state: 'ready', detail: found.directory };
  };
  const obtain = async (): Promise<void> => {
    await looked;
    if (wanted && !generation.template) hold(await makeTemplate(await keeper(), signal));
  };
  const looked = Promise.resolve().then(look);
  const settled = obtain().catch((error: unknown) => {
    generation.status = { state: 'failed', detail: describeError(error) };
    if (!signal.aborted) log.warn({ err: error }, 'no VM template: pods boot instead of being cloned');
  });
  const generation: Generation = {
    fingerprint,
    looked,
    settled,
    template: undefined,
    status: wanted
      ? { state: 'being made', detail: 'pods boot until it is there' }
      : { state: 'off', detail: 'the configuration says so' },
  };
  return generation;
}
