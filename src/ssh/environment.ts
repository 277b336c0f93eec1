import { matchesGlob } from './glob.ts';

const MAX_VARIABLES = 64;
const MAX_VALUE_BYTES = 4096;

/** The variables that a client sets for its command; only allowed ones, and a bounded number of them. */
export class Environment {
  readonly #accepted: readonly string[];
  readonly #values = new Map<string, string>();

  /** `accepted`: names, in which `*` stands for anything */
  constructor(accepted: readonly string[]) {
    this.#accepted = accepted;
  }

  /** False: it was not taken. */
  set(name: string, value: string): boolean {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || value.includes('\0')) return false;
    if (Buffer.byteLength(value) > MAX_VALUE_BYTES || this.#values.size >= MAX_VARIABLES) return false;
    if (!this.#accepted.some((pattern) => matchesGlob(pattern, name))) return false;
    this.#values.set(name, value);
    return true;
  }

  get values(): Readonly<Record<string, string>> {
    return Object.fromEntries(this.#values);
  }
}
