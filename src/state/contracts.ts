/** The state port: records that survive the daemon. Values are plain JSON data; each kind's owner defines its shape. */

export type RecordKind = 'sandbox' | 'container' | 'spare' | 'image' | 'setting';

export interface StoredRecord<T> {
  readonly id: string;
  /** unique within the kind */
  readonly name: string;
  readonly value: T;
}

export interface Collection<T> {
  /** Throws `already_exists`, naming the holder's id, when the name or the id is taken. */
  insert(id: string, name: string, value: T): void;
  /** Throws `not_found`. */
  update(id: string, value: T): void;
  /** Idempotent; frees the name. */
  delete(id: string): void;
  /** In the order of insertion. */
  all(): StoredRecord<T>[];
}

export interface Store extends Disposable {
  collection<T>(kind: RecordKind): Collection<T>;
  /** All or nothing; `work` must not wait for anything. */
  transaction<T>(work: () => T): T;
}
