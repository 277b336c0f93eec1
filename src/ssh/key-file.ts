import { open } from 'node:fs/promises';
import { CaissonError, describeError } from '../lib/errors.ts';
import { ignoreMissing } from '../lib/files.ts';
import type { Logger } from '../lib/logger.ts';
import { parseAuthorizedKeys, type AuthorizedKeys } from './authorized-keys.ts';

const MAX_BYTES = 1024 * 1024;
const WRITABLE_BY_OTHERS = 0o022;
const NOBODY: AuthorizedKeys = { keys: new Map(), refused: [] };

/** Reads the file when it has changed, so that a key that is taken out gets in no more. */
export class KeyFile {
  readonly #path: string;
  readonly #log: Logger;
  #read: { readonly version: string; readonly keys: AuthorizedKeys } | undefined;

  constructor(path: string, log: Logger) {
    this.#path = path;
    this.#log = log;
  }

  /** Never throws: a file that cannot be used lets nobody in, and the log says why. */
  async keys(): Promise<AuthorizedKeys> {
    try {
      return await this.#current();
    } catch (err) {
      this.#log.error({ err, file: this.#path }, 'nobody can log in by SSH: the file of keys cannot be used');
      return NOBODY;
    }
  }

  async #current(): Promise<AuthorizedKeys> {
    await using file = await open(this.#path, 'r').catch(ignoreMissing(undefined));
    if (!file) {
      this.#read = undefined;
      return NOBODY;
    }
    const { mtimeNs, ctimeNs, ino, size, uid, mode } = await file.stat({ bigint: true });
    if (Number(uid) !== process.getuid?.() || (Number(mode) & WRITABLE_BY_OTHERS) !== 0)
      throw new CaissonError('permission_denied', `${this.#path} can be written by others than its owner`, {
        hint: `chown root ${this.#path}; chmod 600 ${this.#path}`,
      });
    if (size > MAX_BYTES) throw new CaissonError('invalid_argument', `${this.#path} is larger than 1 MiB`);
    const version = [ino, size, mtimeNs, ctimeNs].join(':');
    if (this.#read?.version !== version) {
      const keys = parseAuthorizedKeys(await file.readFile('utf8'));
      this.#read = { version, keys };
      for (const { line, why } of keys.refused)
        this.#log.warn(
          { file: this.#path, line, why: describeError(why) },
          'a line of the file of SSH keys is refused',
        );
    }
    return this.#read.keys;
  }
}
