import { describeError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import type { TemplateStatus } from '../contracts.ts';
import { findTemplate, makeTemplate, type KeeperOptions, type Template } from './keeper.ts';

/** The daemon's template: looked for at once, made in the background when there is none. */
export interface TemplateHolder {
  status(): TemplateStatus;
  /** The template, if it is there; waits for the look, not for the making. */
  current(): Promise<Template | undefined>;
  /** resolves when it is there or cannot be made */
  readonly settled: Promise<void>;
}

export interface HolderOptions {
  readonly wanted: boolean;
  /** rejects when VMs cannot start at all */
  readonly keeper: () => Promise<KeeperOptions>;
  /** ends the making */
  readonly signal: AbortSignal;
  readonly log: Logger;
}

export function holdTemplate({ wanted, keeper, signal, log }: HolderOptions): TemplateHolder {
  let template: Template | undefined;
  let status: TemplateStatus = wanted
    ? { state: 'being made', detail: 'pods boot until it is there' }
    : { state: 'off', detail: 'the configuration says so' };
  const hold = (found: Template | undefined): void => {
    template = found;
    if (found) status = { state: 'ready', detail: found.directory };
  };
  const look = async (): Promise<void> => {
    const options = await keeper();
    if (wanted) hold(await findTemplate(options));
  };
  const looked = look();
  const obtain = async (): Promise<void> => {
    await looked;
    if (wanted && !template) hold(await makeTemplate(await keeper(), signal));
  };
  const settled = obtain().catch((error: unknown) => {
    status = { state: 'failed', detail: describeError(error) };
    if (!signal.aborted) log.warn({ err: error }, 'no VM template: pods boot instead of being cloned');
  });
  return {
    status: () => status,
    settled,
    current: async () => {
      await looked.catch(() => undefined); // whoever starts a VM meets the reason again
      return template;
    },
  };
}
