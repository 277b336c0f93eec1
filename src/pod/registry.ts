import { CaissonError } from '../lib/errors.ts';
import type { Collection } from '../state/contracts.ts';

export type Watcher<T> = (id: string, before: T | undefined, after: T | undefined) => void;

/** Records of one kind in memory, written through to the store. Reads never touch the disk. */
export class Registry<T> {
  readonly #records = new Map<string, T>();
  /** id by name */
  readonly #names = new Map<string, string>();
  readonly #collection: Collection<T>;
  readonly #kind: string;
  readonly #onUnstored: (id: string, error: unknown) => void;
  #onChange: Watcher<T> = () => undefined;

  constructor(kind: string, collection: Collection<T>, onUnstored: (id: string, error: unknown) => void) {
    this.#kind = kind;
    this.#onUnstored = onUnstored;
    this.#collection = collection;
    for (const { id, name, value } of collection.all()) {
      this.#records.set(id, value);
      this.#names.set(name, id);
    }
  }

  /** Tells of every change from now on, after it has been made; undefined: there was, or is, no such record. */
  watch(onChange: Watcher<T>): void {
    this.#onChange = onChange;
  }

  /** Throws `already_exists`, naming the holder's id, when the name is taken. */
  requireFree(name: string): void {
    const holder = this.#names.get(name);
    if (holder === undefined) return;
    throw new CaissonError('already_exists', `${this.#kind} ${name} already exists with id ${holder}`);
  }

  /** Throws as `requireFree`. */
  insert(id: string, name: string, record: T): void {
    this.requireFree(name);
    this.#collection.insert(id, name, record);
    this.#names.set(name, id);
    this.#set(id, record);
  }

  update(id: string, change: Partial<T>): T {
    const record = { ...this.get(id), ...change };
    this.#collection.update(id, record);
    this.#set(id, record);
    return record;
  }

  /**
   * As update, for what has happened whether it can be stored or not, as on a full disk: then `onUnstored` is told, and
   * a restarted daemon will have to find it out again. Never throws for a known id.
   */
  observe(id: string, change: Partial<T>): void {
    const record = { ...this.get(id), ...change };
    try {
      this.#collection.update(id, record);
    } catch (error) {
      this.#onUnstored(id, error);
    }
    this.#set(id, record);
  }

  delete(id: string): void {
    const before = this.#records.get(id);
    this.#collection.delete(id);
    this.#records.delete(id);
    for (const [name, holder] of this.#names) if (holder === id) this.#names.delete(name);
    this.#onChange(id, before, undefined);
  }

  #set(id: string, record: T): void {
    const before = this.#records.get(id);
    this.#records.set(id, record);
    this.#onChange(id, before, record);
  }

  has(id: string): boolean {
    return this.#records.has(id);
  }

  get(id: string): T {
    const record = this.#records.get(id);
    if (record === undefined) throw new CaissonError('not_found', `there is no ${this.#kind} ${id}`);
    return record;
  }

  /** The whole id for an id or an unambiguous prefix; undefined when there is none. */
  resolve(prefix: string): string | undefined {
    if (this.#records.has(prefix)) return prefix;
    if (prefix === '') return undefined;
    const matches = this.#records
      .keys()
      .filter((id) => id.startsWith(prefix))
      .take(2)
      .toArray();
    if (matches.length > 1) throw new CaissonError('invalid_argument', `${this.#kind} id ${prefix} is ambiguous`);
    return matches[0];
  }

  /** As resolve, but an unknown one is an error. */
  require(prefix: string): string {
    const id = this.resolve(prefix);
    if (id === undefined) throw new CaissonError('not_found', `there is no ${this.#kind} ${JSON.stringify(prefix)}`);
    return id;
  }

  entries(): IteratorObject<[string, T]> {
    return this.#records.entries();
  }
}
