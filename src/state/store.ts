import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { CaissonError } from '../lib/errors.ts';
import { tracedSync } from '../lib/trace.ts';
import type { Collection, RecordKind, Store, StoredRecord } from './contracts.ts';
import { openDatabase } from './database.ts';
import { damaged, storeError } from './errors.ts';

export interface StoreOptions {
  /** `ms` to wait for another process that holds the file */
  readonly busyTimeoutMs?: number;
}

/** Opens the database for this process alone. Throws CaissonError that names the file and says what to do. */
export function openStore(path: string, options: StoreOptions = {}): Store {
  return new SqliteStore(path, openDatabase(path, options.busyTimeoutMs));
}

class SqliteStore implements Store {
  readonly #path: string;
  readonly #database: DatabaseSync;
  #depth = 0;

  constructor(path: string, database: DatabaseSync) {
    this.#path = path;
    this.#database = database;
  }

  collection<T>(kind: RecordKind): Collection<T> {
    return new SqliteCollection<T>(this.#path, this.#database, kind);
  }

  /** Nested calls are undone by themselves when they throw, and with the outermost. */
  transaction<T>(work: () => T): T {
    const savepoint = `depth${this.#depth}`;
    this.#exec(this.#depth === 0 ? 'BEGIN IMMEDIATE' : `SAVEPOINT ${savepoint}`);
    this.#depth++;
    let done = false;
    try {
      const result = work();
      if (result instanceof Promise) throw new CaissonError('internal', 'a transaction must not wait for anything');
      done = true;
      return result;
    } finally {
      this.#depth--;
      this.#end(done, savepoint);
    }
  }

  #end(commit: boolean, savepoint: string): void {
    if (this.#depth > 0) this.#exec(commit ? `RELEASE ${savepoint}` : `ROLLBACK TO ${savepoint}; RELEASE ${savepoint}`);
    else if (commit) this.#commit();
    // a full disk makes SQLite roll back by itself
    else if (this.#database.isTransaction) this.#exec('ROLLBACK');
  }

  #commit(): void {
    try {
      this.#exec('COMMIT');
    } catch (error) {
      if (this.#database.isTransaction) this.#exec('ROLLBACK');
      throw error;
    }
  }

  #exec(sql: string): void {
    try {
      this.#database.exec(sql);
    } catch (error) {
      throw storeError(this.#path, error);
    }
  }

  [Symbol.dispose](): void {
    if (this.#database.isOpen) this.#database.close();
  }
}

class SqliteCollection<T> implements Collection<T> {
  readonly #path: string;
  readonly #kind: RecordKind;
  readonly #insert: StatementSync;
  readonly #holder: StatementSync;
  readonly #update: StatementSync;
  readonly #delete: StatementSync;
  readonly #all: StatementSync;

  constructor(path: string, database: DatabaseSync, kind: RecordKind) {
    this.#path = path;
    this.#kind = kind;
    this.#insert = database.prepare('INSERT INTO records (kind, id, name, value) VALUES (?, ?, ?, ?)');
    this.#holder = database.prepare('SELECT id FROM records WHERE kind = ?1 AND (id = ?2 OR name = ?3)');
    this.#update = database.prepare('UPDATE records SET value = ?3 WHERE kind = ?1 AND id = ?2');
    this.#delete = database.prepare('DELETE FROM records WHERE kind = ? AND id = ?');
    this.#all = database.prepare('SELECT id, name, value FROM records WHERE kind = ? ORDER BY seq');
  }

  insert(id: string, name: string, value: T): void {
    const text = encode(value);
    this.#guard(() => {
      const holder = this.#holder.get(this.#kind, id, name);
      if (holder) throw this.#taken(name, String(holder['id']));
      this.#insert.run(this.#kind, id, name, text);
    });
  }

  update(id: string, value: T): void {
    const text = encode(value);
    const { changes } = this.#guard(() => this.#update.run(this.#kind, id, text));
    if (changes === 0) throw new CaissonError('not_found', `there is no ${this.#kind} ${id}`);
  }

  delete(id: string): void {
    this.#guard(() => this.#delete.run(this.#kind, id));
  }

  all(): StoredRecord<T>[] {
    return this.#guard(() => this.#all.all(this.#kind)).map((row) => {
      const id = String(row['id']);
      return { id, name: String(row['name']), value: this.#decode(id, String(row['value'])) };
    });
  }

  #taken(name: string, holderId: string): CaissonError {
    return new CaissonError('already_exists', `${this.#kind} ${name} already exists with id ${holderId}`);
  }

  /** The one place where stored text becomes T: only this kind's owner wrote it. */
  #decode(id: string, text: string): T {
    try {
      return JSON.parse(text) as T;
    } catch (error) {
      throw damaged(this.#path, `the record of ${this.#kind} ${id} is not JSON`, error);
    }
  }

  #guard<R>(work: () => R): R {
    try {
      return tracedSync('state: store', work);
    } catch (error) {
      throw storeError(this.#path, error);
    }
  }
}

function encode(value: unknown): string {
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw new CaissonError('internal', 'a record must be JSON data');
  return text;
}
