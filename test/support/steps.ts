import { setTimeout as sleep } from 'node:timers/promises';

export interface StepsOptions {
  /** ends the run before its next step */
  readonly signal: AbortSignal;
  /** called before each step */
  readonly onStart?: () => void;
  /** what helps to understand a failure: printed below it, line by line */
  readonly explain: () => string | Promise<string>;
  /** to stdout if left out */
  readonly print?: (line: string) => void;
}

const MAX_LINE_CHARS = 500;

class SectionEnded extends Error {}

/**
 * Runs a test that is one long story: named steps in sections, each printed with its time. `check` goes on after a
 * failure, `need` ends its section, because the rest of it rests on this step.
 */
export class Steps {
  #passed = 0;
  #failed = 0;
  readonly #options: StepsOptions;

  readonly #print: (line: string) => void;

  constructor(options: StepsOptions) {
    this.#options = options;
    this.#print = options.print ?? ((line) => void process.stdout.write(`${line}\n`));
  }

  get failed(): number {
    return this.#failed;
  }

  /** The closing line. */
  summary(): string {
    return `${this.#passed} passed, ${this.#failed} failed`;
  }

  /** Sections may hold sections; a failed one does not end the one around it. */
  async section(title: string, body: () => Promise<void>): Promise<void> {
    if (this.#options.signal.aborted) return;
    this.#print(title);
    try {
      await body();
    } catch (error) {
      // what is thrown between two steps is a failure like those within
      if (!(error instanceof SectionEnded || this.#options.signal.aborted)) await this.#fail(title, error, '');
    }
  }

  async check(name: string, body: () => unknown): Promise<void> {
    await this.#run(name, async () => void (await body()));
  }

  async need<T>(name: string, body: () => T | Promise<T>): Promise<T> {
    const outcome = await this.#run(name, body);
    if (outcome) return outcome.value;
    throw new SectionEnded(name);
  }

  async #run<T>(name: string, body: () => T | Promise<T>): Promise<{ readonly value: T } | undefined> {
    if (this.#options.signal.aborted) throw new SectionEnded('interrupted');
    this.#options.onStart?.();
    const startedMs = performance.now();
    const duration = (): string => `(${Math.round(performance.now() - startedMs)} ms)`;
    try {
      const value = await body();
      this.#passed++;
      this.#print(`  ok    ${name} ${duration()}`);
      return { value };
    } catch (error) {
      if (this.#options.signal.aborted) throw new SectionEnded('interrupted');
      await this.#fail(name, error, duration());
      return undefined;
    }
  }

  async #fail(name: string, error: unknown, duration: string): Promise<void> {
    this.#failed++;
    this.#print(`  FAIL  ${name} ${duration}`);
    const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const explained = await this.#explanation();
    for (const line of `${reason}\n${explained}`.trimEnd().split('\n')) this.#print(`        | ${cut(line)}`);
  }

  async #explanation(): Promise<string> {
    try {
      return await this.#options.explain();
    } catch (error) {
      return `and no more is known: ${String(error)}`;
    }
  }
}

/** Tries until `body` does not throw; after `withinMs` throws what it threw last. */
export async function eventually<T>(body: () => T | Promise<T>, withinMs = 15_000, everyMs = 200): Promise<T> {
  for (const deadline = Date.now() + withinMs; ; await sleep(everyMs)) {
    try {
      return await body();
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
  }
}

const cut = (line: string): string => (line.length > MAX_LINE_CHARS ? `${line.slice(0, MAX_LINE_CHARS)}…` : line);
