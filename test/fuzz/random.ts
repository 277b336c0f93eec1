/** Random numbers that a seed repeats (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 or more, less than `limit` */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new Error('nothing to pick from');
    return item;
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }

  /** Mostly small, at times the edges of what a field can hold. */
  length(): number {
    return this.once(8) ? this.pick([0, 1, 125, 126, 127, 65_535, 65_536]) : this.below(64);
  }

  /** The same bytes with some of them changed, left out, doubled or cut off. */
  damaged(bytes: Buffer): Buffer {
    const damaged = Buffer.from(bytes);
    for (let i = this.below(4); i > 0 && damaged.length > 0; i--) {
      damaged[this.below(damaged.length)] = this.pick([0, 1, 127, 128, 255, this.below(256)]);
    }
    const at = this.below(damaged.length + 1);
    if (this.once(8)) return damaged.subarray(0, at);
    if (this.once(8)) return Buffer.concat([damaged.subarray(0, at), this.bytes(this.below(20)), damaged.subarray(at)]);
    return damaged;
  }

  /** The same bytes in pieces as a network would cut them. */
  pieces(bytes: Buffer): Buffer[] {
    const pieces: Buffer[] = [];
    for (let at = 0; at < bytes.length;) {
      const length = this.once(3) ? 1 + this.below(8) : 1 + this.below(bytes.length);
      pieces.push(bytes.subarray(at, at + length));
      at += length;
    }
    return pieces;
  }
}
