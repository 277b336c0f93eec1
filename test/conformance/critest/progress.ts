/**
 * Finds in ginkgo's verbose output which spec has ended how: a ruler, the name, what it did, a bullet with the time.
 * Of specs that ran side by side, the name is behind the bullet.
 */
export class Progress {
  readonly #onSpec: (line: string) => void;
  #name = '';
  #ended: { readonly mark: string; readonly seconds: string } | undefined;
  #afterRuler = false;

  constructor(onSpec: (line: string) => void) {
    this.#onSpec = onSpec;
  }

  read(line: string): void {
    const [, mark = 'ok', seconds] = /^(?:• |S )(?:\[(\w+)\] )?\[([\d.]+) seconds\]/.exec(line) ?? [];
    if (seconds !== undefined) this.#ended = { mark, seconds };
    else if (line.startsWith('[k8s.io]') && (this.#afterRuler || this.#ended)) this.#name = line;
    this.#afterRuler = /^-{10,}$/.test(line);
    if (this.#ended && this.#name !== '') {
      this.#onSpec(`${this.#ended.mark.padEnd(8)} ${this.#name} (${this.#ended.seconds} s)`);
      this.#name = '';
      this.#ended = undefined;
    }
    if (this.#afterRuler) this.#ended = undefined;
  }
}
