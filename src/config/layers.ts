import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { CaissonError, describeError, isErrno } from '../lib/errors.ts';
import { ignoreMissing } from '../lib/files.ts';
import { dotted } from './keys.ts';

export interface Layer {
  /** the file, or what stands for it in messages */
  readonly source: string;
  readonly values: Readonly<Record<string, unknown>>;
}

export interface Merged {
  readonly values: Record<string, unknown>;
  /** by dotted key: the source whose value counts */
  readonly origins: ReadonlyMap<string, string>;
}

/** The main file and the drop-ins beside it, in the order in which they are merged. */
export async function readLayers(path: string, mustExist: boolean): Promise<Layer[]> {
  const main = await readLayer(path, mustExist);
  const directory = join(dirname(path), 'config.d');
  const names = await readdir(directory).catch(ignoreMissing<string[]>([]));
  const dropIns = names.filter((name) => name.endsWith('.toml') && !name.startsWith('.')).toSorted();
  const layers = [main];
  for (const name of dropIns) layers.push(await readLayer(join(directory, name), true));
  return layers.filter((layer) => layer !== undefined);
}

async function readLayer(path: string, mustExist: boolean): Promise<Layer | undefined> {
  try {
    return { source: path, values: parse(await readFile(path, 'utf8')) };
  } catch (error) {
    if (isErrno(error, 'ENOENT') && !mustExist) return undefined;
    if (error instanceof TomlError) throw syntaxError(path, error);
    throw new CaissonError('invalid_argument', `cannot read ${path}: ${describeError(error)}`, { cause: error });
  }
}

function syntaxError(path: string, error: TomlError): CaissonError {
  const what = error.message.split('\n')[0] ?? '';
  return new CaissonError('invalid_argument', `${path}:${error.line}:${error.column}: ${what}`, {
    cause: error,
    hint: 'the file must be TOML; `caisson config --default` prints one that is right',
  });
}

/** Later layers win key by key: tables are merged, everything else, arrays included, is replaced. */
export function mergeLayers(layers: readonly Layer[]): Merged {
  const values: Record<string, unknown> = {};
  const origins = new Map<string, string>();
  for (const layer of layers) mergeInto(values, layer.values, layer.source, origins, []);
  return { values, origins };
}

function mergeInto(
  target: Record<string, unknown>,
  values: Readonly<Record<string, unknown>>,
  source: string,
  origins: Map<string, string>,
  path: readonly string[],
): void {
  for (const [key, value] of Object.entries(values)) {
    const here = [...path, key];
    origins.set(dotted(here), source);
    if (!isTable(value)) {
      setOwn(target, key, value);
      continue;
    }
    const old = Object.hasOwn(target, key) ? target[key] : undefined;
    const table = isTable(old) ? old : {};
    setOwn(target, key, table);
    mergeInto(table, value, source, origins, here);
  }
}

/** Unlike assignment, safe for a key named `__proto__`. */
function setOwn(target: Record<string, unknown>, key: string, value: unknown): void {
  Object.defineProperty(target, key, { value, writable: true, enumerable: true, configurable: true });
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}
