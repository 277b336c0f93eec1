import { randomBytes } from 'node:crypto';
import { CaissonError } from '../lib/errors.ts';

/** The token is the only secret between a client on this host and a container: 128 bits. */
const TOKEN_BYTES = 16;

export interface TokenLimits {
  /** `ms` */
  readonly lifetimeMs: number;
  readonly maxPending: number;
}

const DEFAULT_LIMITS: TokenLimits = { lifetimeMs: 60_000, maxPending: 1000 };

interface Pending<T> {
  readonly value: T;
  /** on `performance.now()`'s clock */
  readonly expiresMs: number;
}

/** Values that can be taken once, for a minute, by whoever knows the token. All live equally long. */
export class Tokens<T> {
  readonly #pending = new Map<string, Pending<T>>();
  readonly #limits: TokenLimits;

  constructor(limits: TokenLimits = DEFAULT_LIMITS) {
    this.#limits = limits;
  }

  /** `resource_exhausted` while too many wait to be taken. */
  issue(value: T): string {
    this.#forgetExpired();
    const { maxPending, lifetimeMs } = this.#limits;
    if (this.#pending.size >= maxPending) {
      throw new CaissonError('resource_exhausted', `${maxPending} streaming URLs wait to be used`, {
        hint: `unused ones expire after ${lifetimeMs / 1000} s`,
      });
    }
    const token = randomBytes(TOKEN_BYTES).toString('base64url');
    this.#pending.set(token, { value, expiresMs: performance.now() + lifetimeMs });
    return token;
  }

  /** Undefined when it is unknown, used or too old. */
  peek(token: string): T | undefined {
    this.#forgetExpired();
    return this.#pending.get(token)?.value;
  }

  /** As `peek`, and the token is used then. */
  take(token: string): T | undefined {
    const value = this.peek(token);
    this.#pending.delete(token);
    return value;
  }

  /** The oldest come first. */
  #forgetExpired(): void {
    const now = performance.now();
    for (const [token, { expiresMs }] of this.#pending) {
      if (expiresMs > now) return;
      this.#pending.delete(token);
    }
  }
}
