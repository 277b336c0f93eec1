import { CaissonError, describeError } from '../lib/errors.ts';
import { tracedApart } from '../lib/trace.ts';
import type { PoolView } from './contracts.ts';
import type { PodContext } from './context.ts';
import { syncClock } from './clock.ts';
import { rehearse } from './rehearse.ts';
import { makeGround, newIdentity, startVm, type Shell } from './shell.ts';

const MEMORY_LOOK_MS = 5000;
const RETRY_MS = 10_000;
/** after one was taken: its pod comes first, with its containers */
const REFILL_MS = 1000;
const SHORT_OF_MEMORY = 'the host is short of memory';

interface Spare {
  readonly shell: Shell;
  readonly undo: AsyncDisposableStack;
}

/**
 * VMs that wait for pods, each in a netns and with a disk of its own:
 *
 *   (none) ──make──▶ waiting ──take──▶ a pod's
 *                       └── it dies, the host is short of memory, or the daemon ends ──▶ (none)
 *
 * They are made one at a time, at low priority. A spare is in the store from before its first part is made until
 * it is a sandbox, so that the next daemon can undo what this one leaves behind.
 */
export class WarmPool implements AsyncDisposable {
  readonly #context: PodContext;
  readonly #size: number;
  readonly #waiting: Spare[] = [];
  readonly #closing = new AbortController();
  readonly #timers: readonly NodeJS.Timeout[];
  #filling: Promise<void> | undefined;
  #refill: NodeJS.Timeout | undefined;
  #reason = '';

  constructor(context: PodContext) {
    this.#context = context;
    this.#size = context.config.vm.pool;
    // memory pressure has an event (PSI), but none that Node can wait for
    this.#timers = this.#size === 0 ? [] : [setInterval(() => void this.#lookAtMemory(), MEMORY_LOOK_MS).unref()];
    if (this.#size > 0) void context.vms.settled.then(() => this.#fill());
  }

  /** The one that has waited longest; another is made in its place, when no more are taken. Whoever takes it disposes of its parts. */
  take(): Shell | undefined {
    const spare = this.#waiting.shift();
    spare?.undo.move();
    if (spare) {
      clearTimeout(this.#refill);
      this.#refill = setTimeout(() => this.#fill(), REFILL_MS).unref();
    }
    return spare?.shell;
  }

  status(): PoolView {
    const ready = this.#waiting.length;
    return { size: this.#size, ready, reason: ready < this.#size ? this.#reason : '' };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timers.forEach((timer) => clearInterval(timer));
    clearTimeout(this.#refill);
    this.#closing.abort(new CaissonError('cancelled', 'the daemon ends'));
    await this.#filling;
    await Promise.all(this.#waiting.splice(0).map(({ shell, undo }) => this.#remove(shell.identity.id, undo)));
  }

  /** Starts filling the pool unless that goes on already. Never throws. */
  #fill(): void {
    const { signal } = this.#closing;
    if (this.#filling || signal.aborted) return;
    const failed = (error: unknown): void => {
      if (signal.aborted) return;
      this.#reason = describeError(error);
      this.#context.log.warn({ err: error }, 'no VM can be made to wait for a pod');
      setTimeout(() => this.#fill(), RETRY_MS).unref();
    };
    this.#filling = this.#makeAll()
      .catch(failed)
      .finally(() => (this.#filling = undefined));
  }

  async #makeAll(): Promise<void> {
    const { vms } = this.#context;
    while (this.#waiting.length < this.#size && !this.#closing.signal.aborted) {
      if ((await vms.spareMemoryMib()) < vms.sizes.least.memoryMib) {
        this.#reason = SHORT_OF_MEMORY;
        return;
      }
      this.#keep(await tracedApart('pool: make a VM', {}, () => this.#make()));
      this.#reason = '';
    }
  }

  async #make(): Promise<Spare> {
    const context = this.#context;
    const { signal } = this.#closing;
    const identity = newIdentity(context);
    context.spares.insert(identity.id, identity.id, { version: 1, cid: identity.cid, uid: identity.uid });
    const undo = new AsyncDisposableStack();
    try {
      const ground = await makeGround(context, identity, undo, signal);
      const prepared = await startVm(context, { ...identity, background: true }, ground, undo, signal);
      await rehearse(prepared, context.config.vm.guest_image, signal);
      await syncClock(prepared, true, signal);
      return { shell: { identity, netns: ground.netns, ...prepared }, undo };
    } catch (error) {
      await this.#remove(identity.id, undo);
      throw error;
    }
  }

  #keep(spare: Spare): void {
    this.#waiting.push(spare);
    void spare.shell.vm.exited.then(async ({ reason }) => {
      const index = this.#waiting.indexOf(spare);
      if (index < 0) return;
      this.#waiting.splice(index, 1);
      this.#context.log.warn({ sandboxId: spare.shell.identity.id, reason }, 'a waiting VM has ended');
      await this.#remove(spare.shell.identity.id, spare.undo);
      this.#fill();
    });
  }

  /** When that fails its record stays, so that the next daemon tries again. Never rejects. */
  async #remove(id: string, undo: AsyncDisposableStack): Promise<void> {
    try {
      await undo.disposeAsync();
      this.#context.spares.delete(id);
    } catch (error) {
      this.#context.log.error({ err: error, sandboxId: id }, 'a waiting VM cannot be removed');
    }
  }

  /** Gives a VM up when the host needs its memory; fills the pool when there is enough again. */
  async #lookAtMemory(): Promise<void> {
    if (this.#waiting.length === 0 || (await this.#context.vms.spareMemoryMib()) >= 0) return this.#fill();
    const spare = this.#waiting.shift();
    this.#reason = SHORT_OF_MEMORY;
    if (spare) await this.#remove(spare.shell.identity.id, spare.undo);
  }
}
