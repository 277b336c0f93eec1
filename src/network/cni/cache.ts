import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { isErrno } from '../../lib/errors.ts';
import { ignoreMissing, readFileIfExists } from '../../lib/files.ts';
import { attachmentSchema, resultSchema } from './types.ts';

const UNFINISHED = '.new';

const entrySchema = z.object({
  version: z.literal(1),
  attachment: attachmentSchema,
  /** undefined: ADD was begun and has not finished */
  result: resultSchema.optional(),
});

export type CacheEntry = Omit<z.infer<typeof entrySchema>, 'version'>;

/** What was found for a sandbox. `broken`: there is a file, and a crash of the host left no readable entry in it. */
export type CacheLookup = { readonly kind: 'none' } | { readonly kind: 'broken' } | CachedEntry;

interface CachedEntry {
  readonly kind: 'entry';
  readonly entry: CacheEntry;
}

/** The CNI configuration and result of each sandbox, in `directory`/<sandbox id>.json. */
export interface ResultCache {
  write(sandboxId: string, entry: CacheEntry): Promise<void>;
  read(sandboxId: string): Promise<CacheLookup>;
  remove(sandboxId: string): Promise<void>;
}

export async function openCache(directory: string): Promise<ResultCache> {
  await removeUnfinished(directory);
  const fileOf = (sandboxId: string): string => join(directory, `${sandboxId}.json`);
  return {
    write: async (sandboxId, entry) =>
      writeEntry(directory, fileOf(sandboxId), JSON.stringify({ version: 1, ...entry })),
    read: async (sandboxId) => parseEntry(await readFileIfExists(fileOf(sandboxId))),
    remove: async (sandboxId) => rm(fileOf(sandboxId), { force: true }),
  };
}

/** What a daemon was writing when it was killed. */
async function removeUnfinished(directory: string): Promise<void> {
  const names = await readdir(directory).catch(ignoreMissing([]));
  const unfinished = names.filter((name) => name.endsWith(UNFINISHED));
  await Promise.all(unfinished.map((name) => rm(join(directory, name), { force: true })));
}

/** Not synced to the disk: this is on the way of every pod start, and after a power cut DEL makes do without it. */
async function writeEntry(directory: string, file: string, text: string): Promise<void> {
  const temporary = `${file}${UNFINISHED}`;
  await writeFile(temporary, text, { mode: 0o600 }).catch(async (error: unknown) => {
    if (!isErrno(error, 'ENOENT')) throw error;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await writeFile(temporary, text, { mode: 0o600 });
  });
  await rename(temporary, file);
}

function parseEntry(text: string | undefined): CacheLookup {
  if (text === undefined) return { kind: 'none' };
  try {
    const parsed = entrySchema.safeParse(JSON.parse(text));
    return parsed.success ? { kind: 'entry', entry: parsed.data } : { kind: 'broken' };
  } catch {
    return { kind: 'broken' };
  }
}
