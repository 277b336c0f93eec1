import { setTimeout as sleep } from 'node:timers/promises';
import type { AgentClient, AgentStats } from '../../agent/contracts.ts';
import { Semaphore } from '../../lib/async.ts';
import type { Logger } from '../../lib/logger.ts';
import type { InterfaceCounters } from '../../network/contracts.ts';
import type { TimestampNs } from '../contracts.ts';
import { nowNs } from '../records.ts';

/** how often each VM is asked while somebody reads the answers, as the kubelet does all the time */
const INTERVAL_MS = 10_000;
/** and while nobody does */
const IDLE_INTERVAL_MS = 60_000;
/** how long an interest lasts */
const INTEREST_MS = 60_000;
/** VMs asked at once; more than can hang at a time on a working node */
const AT_ONCE = 32;
/** a sample this young is new enough for whoever asks for a new one */
const YOUNG_MS = 500;
/** after a container's start, which is followed by what its pod needs more: other containers, probes */
const SOON_MS = 1000;
/** how long that one waits, when there is an older sample, and when there is none */
const PATIENCE_MS = 2000;
const GREAT_PATIENCE_MS = 30_000;
/** questions that the latter asks, as a starved VM misses the deadline of one */
const FIRST_TRIES = 3;
/** how long an agent may take for a short answer before the question is given up */
const ANSWER_MS = 10_000;

export interface Sample {
  readonly timestamp: TimestampNs;
  /** a clock that never jumps, for rates */
  readonly clockMs: number;
  readonly stats: AgentStats;
}

/** The last two samples of one VM. None of its methods waits for a VM, except `fresh`, for a moment. */
export interface SandboxSamples {
  latest: Sample | undefined;
  previous: Sample | undefined;
  network: { readonly timestamp: TimestampNs; readonly counters: InterfaceCounters } | undefined;
  /** `ms` that the agent took for its last short answer */
  roundTripMs: number | undefined;
  /** since when it owes one, by performance.now() */
  askedMs: number | undefined;
}

export interface Sampled {
  readonly agent: Pick<AgentClient, 'stats' | 'info'>;
  readonly samples: SandboxSamples;
  /** it stands still, and is not asked */
  readonly standstill?: object | undefined;
  /** undefined when the interface is gone */
  readonly counters: () => Promise<InterfaceCounters | undefined>;
}

export const noSamples = (): SandboxSamples => ({
  latest: undefined,
  previous: undefined,
  network: undefined,
  roundTripMs: undefined,
  askedMs: undefined,
});

interface Running {
  readonly ended: Promise<void>;
  next: Promise<void> | undefined;
}

/** Keeps samples of all VMs, by asking each of them now and then; at most one question to a VM is on its way. */
export class Sampler {
  readonly #all: () => Iterable<Sampled>;
  readonly #log: Logger;
  readonly #running = new Map<Sampled, Running>();
  readonly #slots = new Semaphore(AT_ONCE);
  readonly #end = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #soon = new Set<Sampled>();
  #wantedUntilMs = 0;
  #detailsUntilMs = 0;

  /** `all`: the VMs that live when it is called. */
  constructor(all: () => Iterable<Sampled>, log: Logger) {
    this.#all = all;
    this.#log = log;
    this.#timer = setInterval(() => this.#tick(), INTERVAL_MS).unref();
  }

  /** Somebody reads lists: samples shall be young for a while. The first reader after a pause gets old ones. */
  wanted({ details }: { readonly details: boolean }): void {
    const nowMs = performance.now();
    const longUnwanted = nowMs > this.#wantedUntilMs;
    this.#wantedUntilMs = nowMs + INTEREST_MS;
    if (details) this.#detailsUntilMs = nowMs + INTEREST_MS;
    if (longUnwanted) this.#tick();
  }

  /** Asks the VM in a moment, once for all who ask for it by then. */
  soon(vm: Sampled): void {
    if (this.#soon.has(vm)) return;
    this.#soon.add(vm);
    setTimeout(() => {
      this.#soon.delete(vm);
      if (!vm.standstill) void this.refresh(vm);
    }, SOON_MS).unref();
  }

  /** Asks the VM from now on: an answer that is on its way already is not enough. Never rejects. */
  async refresh(vm: Sampled): Promise<void> {
    const running = this.#running.get(vm);
    if (!running) return this.#start(vm);
    running.next ??= running.ended.then(() => this.#start(vm));
    await running.next;
  }

  async #start(vm: Sampled): Promise<void> {
    if (this.#end.signal.aborted) return;
    const running: Running = { ended: this.#slots.run(() => this.#sample(vm)), next: undefined };
    this.#running.set(vm, running);
    await running.ended;
    if (this.#running.get(vm) === running) this.#running.delete(vm);
  }

  /** Returns when there is a new sample, or after a while without one. `isKnown`: the last one has what is asked for. */
  async fresh(vm: Sampled, isKnown: () => boolean, signal: AbortSignal): Promise<void> {
    if (vm.standstill) return;
    const known = isKnown();
    if (known && performance.now() - (vm.samples.latest?.clockMs ?? -Infinity) < YOUNG_MS) return;
    const enough = new AbortController();
    const patienceMs = known ? PATIENCE_MS : GREAT_PATIENCE_MS;
    const patience = sleep(patienceMs, undefined, { signal: AbortSignal.any([signal, enough.signal]) });
    const sampled = known ? this.refresh(vm) : this.#first(vm, isKnown);
    await Promise.race([sampled, patience.catch(() => undefined)]);
    enough.abort();
  }

  /** What is on its way will do, if it has what is asked for: a starved VM needs seconds for each answer. */
  async #first(vm: Sampled, isKnown: () => boolean): Promise<void> {
    await this.#running.get(vm)?.ended;
    for (let tries = 0; tries < FIRST_TRIES && !isKnown(); tries++) await this.refresh(vm);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#end.abort();
  }

  #tick(): void {
    const nowMs = performance.now();
    const leastAgeMs = nowMs < this.#wantedUntilMs ? 0 : IDLE_INTERVAL_MS;
    for (const vm of this.#all()) {
      const ageMs = nowMs - (vm.samples.latest?.clockMs ?? -Infinity);
      if (!vm.standstill && ageMs >= leastAgeMs && !this.#running.has(vm)) void this.#start(vm);
    }
  }

  /** Never rejects. The network is counted by the host, so a VM that hangs has young numbers of it all the same. */
  async #sample({ agent, samples, counters }: Sampled): Promise<void> {
    try {
      const network = await counters();
      if (network) samples.network = { timestamp: nowNs(), counters: network };
      await this.#timeAgent(agent, samples);
      const stats = await agent.stats(performance.now() < this.#detailsUntilMs, this.#end.signal);
      samples.previous = samples.latest;
      samples.latest = { timestamp: nowNs(), clockMs: performance.now(), stats };
    } catch (error) {
      this.#log.debug({ err: error }, 'a VM did not tell its statistics');
    }
  }
  /** A question that is not answered stays where it can be seen, until one is. */
  async #timeAgent(agent: Sampled['agent'], samples: SandboxSamples): Promise<void> {
    const askedMs = performance.now();
    samples.askedMs ??= askedMs;
    await agent.info(AbortSignal.any([this.#end.signal, AbortSignal.timeout(ANSWER_MS)]));
    samples.roundTripMs = performance.now() - askedMs;
    samples.askedMs = undefined;
  }
}
