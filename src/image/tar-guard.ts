import { extract, type Header } from 'tar-stream';
import { CaissonError, describeError } from '../lib/errors.ts';

/** Bounds on a layer; each is far above what real images have. */
export interface TarLimits {
  readonly entries: number;
  /** bytes of names that are remembered to find missing directories */
  readonly directoryBytes: number;
  /** bytes of a path, as the kernel has it */
  readonly pathBytes: number;
}

export const TAR_LIMITS: TarLimits = { entries: 2_000_000, directoryBytes: 64 * 1024 * 1024, pathBytes: 4096 };

export interface TarSummary {
  readonly entries: number;
  /** offset behind the last entry, a multiple of 512 */
  readonly endOffset: number;
  /** directories that have content but no entry of their own, parents first; the root is `.` */
  readonly missingDirectories: readonly string[];
}

export interface TarGuard {
  /** Looks at the next bytes; throws `failed_precondition` for a malformed or hostile archive. */
  write(chunk: Buffer): Promise<void>;
  /** Call once after the last byte; throws like `write`. */
  finish(): Promise<TarSummary>;
}

/** Old archives without a `ustar` mark are fine; tar-stream's types do not know the option. */
const PARSER_OPTIONS = { highWaterMark: 1024 * 1024, allowUnknownFormat: true };

/** Watches a tar go by and refuses entries that would leave its root, and absurd amounts of them. */
export function tarGuard(limits: TarLimits = TAR_LIMITS): TarGuard {
  const parser = extract(PARSER_OPTIONS);
  const directories = directoryLedger(limits);
  let entries = 0;
  let endOffset = 0;
  let failure: unknown;
  let wake = (): void => undefined;

  parser.on('entry', (header, content, next) => {
    try {
      if (++entries > limits.entries) throw refused(`it has more than ${limits.entries} entries`);
      endOffset = endOf(header);
      checkEntry(header, limits);
      directories.note(header);
    } catch (error) {
      return next(error instanceof Error ? error : new Error(String(error)));
    }
    content.on('error', () => undefined); // the parser's own error says it; unheard, this one would end the process
    content.on('end', () => next());
    content.resume();
  });
  parser.on('error', (error: unknown) => (failure = error));
  parser.on('drain', () => wake());
  parser.on('close', () => wake());

  const check = (): void => {
    if (failure instanceof CaissonError) throw failure;
    if (failure !== undefined) throw refused(`it is not a valid tar archive: ${describeError(failure)}`);
  };
  const wait = (): Promise<void> => new Promise((resolve) => (wake = resolve));

  return {
    async write(chunk) {
      check();
      if (!parser.write(chunk) && !parser.destroyed) await wait();
      check();
    },
    async finish() {
      check();
      const closed = wait();
      parser.end(undefined);
      if (!parser.destroyed) await closed;
      check();
      return { entries, endOffset, missingDirectories: directories.missing() };
    },
  };
}

function endOf(header: Header): number {
  // tar-stream says where the content starts; its types do not know
  const start = 'byteOffset' in header ? Number(header.byteOffset) : 0;
  const size = header.type === 'directory' ? 0 : (header.size ?? 0);
  return start + Math.ceil(size / 512) * 512;
}

/** Throws `failed_precondition` when the entry's name, or a hard link's target, points out of the layer. */
function checkEntry(header: Header, limits: TarLimits): void {
  checkPath(header.name, 'entry', limits);
  if (header.type === 'link') checkPath(header.linkname ?? '', 'hard link to', limits);
  checkWhiteout(header.name);
}

function checkPath(path: string, what: string, limits: TarLimits): void {
  if (Buffer.byteLength(path) > limits.pathBytes) throw refused(`the path of an ${what} is too long`);
  if (path.includes('\0')) throw refused(`${what} ${quote(path)} has a zero byte`);
  // kaniko's layers have an entry "/": it names the root and nothing outside
  if (path.startsWith('/') && /[^/]/.test(path)) throw refused(`${what} ${quote(path)} has an absolute path`);
  if (path.split('/').includes('..')) throw refused(`${what} ${quote(path)} leads out of the image`);
}

/** A whiteout deletes the name behind its prefix, which must be a name as well. */
function checkWhiteout(path: string): void {
  const base = path.replace(/\/+$/, '').split('/').at(-1) ?? '';
  if (['.wh.', '.wh..', '.wh...'].includes(base)) throw refused(`entry ${quote(path)} deletes no valid name`);
}

/** Keeps account of directories: mkfs.erofs makes those without an entry world-writable. */
function directoryLedger(limits: TarLimits) {
  const known = new Map<string, 'seen' | 'missing'>();
  let bytes = 0;
  let hasRoot = false;
  const keep = (path: string, state: 'seen' | 'missing'): void => {
    if (!known.has(path)) bytes += Buffer.byteLength(path);
    if (bytes > limits.directoryBytes) throw refused('it has too many directories');
    known.set(path, state);
  };
  return {
    note(header: Header): void {
      const parts = header.name.split('/').filter((part) => part !== '' && part !== '.');
      if (parts.length === 0) hasRoot = true;
      else if (header.type === 'directory') keep(parts.join('/'), 'seen');
      for (let depth = parts.length - 1; depth > 0; depth--) {
        const parent = parts.slice(0, depth).join('/');
        if (known.has(parent)) break;
        keep(parent, 'missing');
      }
    },
    missing(): string[] {
      const paths = [...known].flatMap(([path, state]) => (state === 'missing' ? [path] : []));
      return [...(hasRoot ? [] : ['.']), ...paths.toSorted()];
    },
  };
}

function refused(reason: string): CaissonError {
  return new CaissonError('failed_precondition', reason);
}

function quote(path: string): string {
  return JSON.stringify(path.length > 120 ? `${path.slice(0, 120)}...` : path);
}
