import { dirname } from 'node:path';
import { CaissonError, describeError } from '../lib/errors.ts';

/** Primary result codes of SQLite. */
const SQLITE_BUSY = 5;
const SQLITE_READONLY = 8;
const SQLITE_IOERR = 10;
const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;
const SQLITE_CANTOPEN = 14;
const SQLITE_NOTADB = 26;

/** Says of an error of node:sqlite which file it is about and what to do; passes CaissonErrors on. */
export function storeError(path: string, error: unknown): CaissonError {
  if (error instanceof CaissonError) return error;
  switch (sqliteCode(error)) {
    case SQLITE_BUSY:
      return inUse(path, error);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return damaged(path, describeError(error), error);
    case SQLITE_FULL:
      return new CaissonError('resource_exhausted', `no space left to write the database ${path}`, {
        cause: error,
        hint: `free space on the file system of ${dirname(path)}`,
      });
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
      return new CaissonError(
        'failed_precondition',
        `cannot read and write the database ${path}: ${describeError(error)}`,
        {
          cause: error,
          hint: `${dirname(path)} must be a directory that root can write to, on a file system mounted read-write`,
        },
      );
    default:
      return new CaissonError('internal', `the database ${path} failed: ${describeError(error)}`, { cause: error });
  }
}

export function damaged(path: string, how: string, cause?: unknown): CaissonError {
  return new CaissonError('failed_precondition', `the database ${path} is damaged: ${how}`, {
    cause,
    hint:
      `restore it from a backup, or drain the node, move ${path} and ${path}-wal away and start again: ` +
      'caisson then begins empty and the kubelet makes the pods anew',
  });
}

function inUse(path: string, cause: unknown): CaissonError {
  return new CaissonError('failed_precondition', `another caisson uses ${dirname(path)}`, {
    cause,
    hint: `stop it, or give this one a directory of its own with --root (\`fuser -v ${path}\` shows who it is)`,
  });
}

/** The primary result code: extended codes carry more in their upper bits. */
function sqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return undefined;
  return error.errcode & 0xff;
}
