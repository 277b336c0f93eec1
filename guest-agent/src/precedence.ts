/** until what a control call has caused, such as a container's end, has been told */
const LINGER_MS = 50;
/** calls that never stop must not stop the streams for ever */
const MOST_MS = 500;
/** what an interactive stream brings at a time is less */
const BULK_BYTES = 32 * 1024;

/**
 * The guest has one processor, mostly: while a call that ends or frees something is being answered, and shortly after,
 * streams that bring much are not read. Their writers then wait at full pipes.
 */
export class Precedence {
  #calls = 0;
  #waiting: PromiseWithResolvers<void> | undefined;
  #linger: NodeJS.Timeout | undefined;
  #most: NodeJS.Timeout | undefined;

  /** Runs a call that goes before the streams. */
  async of<T>(call: () => Promise<T>): Promise<T> {
    this.#calls++;
    clearTimeout(this.#linger);
    this.#waiting ??= Promise.withResolvers<void>();
    this.#most ??= setTimeout(() => this.#letGo(), MOST_MS);
    try {
      return await call();
    } finally {
      this.#calls--;
      clearTimeout(this.#linger);
      if (this.#calls === 0) this.#linger = setTimeout(() => this.#letGo(), LINGER_MS);
    }
  }

  /** What a stream that has brought `bytes` waits for before it brings more; undefined: nothing. */
  over(bytes: number): Promise<void> | undefined {
    return bytes < BULK_BYTES ? undefined : this.#waiting?.promise;
  }

  #letGo(): void {
    clearTimeout(this.#linger);
    clearTimeout(this.#most);
    this.#most = undefined;
    this.#waiting?.resolve();
    this.#waiting = undefined;
  }
}

export const controlCalls = new Precedence();
