import { chmodSync, linkSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { CaissonError, isErrno } from '../lib/errors.ts';
import { damaged, storeError } from './errors.ts';

/** `CAIS`: tells our file from any other SQLite database */
const APPLICATION_ID = 0x43414953;
const SCHEMA_VERSION = 1;
/** `ms`; a predecessor that is just leaving gets this long to let go of the file */
const BUSY_TIMEOUT_MS = 2000;

const SCHEMA = `
  CREATE TABLE records (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    UNIQUE (kind, id),
    UNIQUE (kind, name)
  ) STRICT;
  PRAGMA application_id = ${APPLICATION_ID};
  PRAGMA user_version = ${SCHEMA_VERSION};
`;

/** Opens the database for this process alone, making it if it is missing. A file it cannot trust is left as it is. */
export function openDatabase(path: string, busyTimeoutMs = BUSY_TIMEOUT_MS): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    createIfMissing(path);
    if (statSync(path).size === 0) throw damaged(path, 'it is empty');
    chmodSync(path, 0o600);
    database = new DatabaseSync(path, { timeout: busyTimeoutMs });
    lock(database);
    verify(database, path);
    return database;
  } catch (error) {
    database?.close();
    throw error instanceof Error && 'syscall' in error ? notWritable(path, error) : storeError(path, error);
  }
}

/** The exclusive mode must come before the first access: SQLite then keeps the lock until the file is closed. */
function lock(database: DatabaseSync): void {
  database.exec('PRAGMA locking_mode = EXCLUSIVE');
  database.exec('PRAGMA journal_mode = WAL');
  database.exec('PRAGMA synchronous = NORMAL');
  database.exec('BEGIN EXCLUSIVE; COMMIT');
}

function verify(database: DatabaseSync, path: string): void {
  const applicationId = pragma(database, 'application_id');
  if (applicationId !== APPLICATION_ID) throw damaged(path, 'it is a database, but not one of caisson');
  const version = pragma(database, 'user_version');
  if (version > SCHEMA_VERSION) {
    throw new CaissonError('failed_precondition', `the database ${path} was written by a newer caisson`, {
      hint: `it has schema ${version}, this version knows ${SCHEMA_VERSION}: install the newer caisson again`,
    });
  }
  const check = database.prepare('PRAGMA quick_check(1)').get()?.['quick_check'];
  if (check !== 'ok') throw damaged(path, String(check));
}

function pragma(database: DatabaseSync, name: 'application_id' | 'user_version'): number {
  return Number(database.prepare(`PRAGMA ${name}`).get()?.[name]);
}

/** A new database appears under its name only when it is complete, so that an empty file is always damage. */
function createIfMissing(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })) return;
  mkdirSync(dirname(path), { recursive: true, mode: 0o711 });
  setAsideOrphan(`${path}-wal`);
  const temporary = `${path}.${process.pid}.new`;
  rmSync(temporary, { force: true });
  try {
    const database = new DatabaseSync(temporary);
    database.exec(SCHEMA);
    database.close();
    linkSync(temporary, path);
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error;
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** Left behind by a database that was moved away, it would be replayed into the new one. */
function setAsideOrphan(wal: string): void {
  try {
    renameSync(wal, `${wal}.orphan`);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}

function notWritable(path: string, cause: Error): CaissonError {
  return new CaissonError('failed_precondition', `cannot write the database ${path}: ${cause.message}`, {
    cause,
    hint: `${dirname(path)} must be a directory that root can write to, on a file system mounted read-write`,
  });
}
