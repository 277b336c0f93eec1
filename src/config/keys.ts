import { z } from 'zod';
import { configSchema } from './schema.ts';

/** What we need of the schema's description as JSON Schema. */
export interface KeySchema {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly properties?: Readonly<Record<string, KeySchema>>;
  readonly items?: KeySchema;
}

/** The schema of the whole file; the only walk over zod's own structure is zod's. */
export function describeSchema(): KeySchema {
  return z.toJSONSchema(configSchema, { io: 'input' }) as KeySchema;
}

/** Keys that the table at `path` knows; array indices are skipped. */
export function keysAt(schema: KeySchema, path: readonly PropertyKey[]): string[] {
  let at: KeySchema | undefined = schema;
  for (const part of path) at = typeof part === 'number' ? at?.items : at?.properties?.[String(part)];
  return Object.keys(at?.properties ?? {});
}

/** Every key of the file, dotted, tables included. */
export function allKeys(schema: KeySchema, prefix = ''): string[] {
  const table = schema.properties ?? schema.items?.properties ?? {};
  return Object.entries(table).flatMap(([key, child]) => {
    const name = `${prefix}${key}`;
    return [name, ...allKeys(child, `${name}.`)];
  });
}

/** `vm.vcpus`, `image.registry[0].prefix` */
export function dotted(path: readonly PropertyKey[]): string {
  return path
    .map((part, i) => (typeof part === 'number' ? `[${part}]` : `${i > 0 ? '.' : ''}${String(part)}`))
    .join('');
}

/** The key somebody probably meant: one that exists elsewhere under this name, else the one spelt most like it. */
export function nearestKey(schema: KeySchema, path: readonly PropertyKey[], unknown: string): string | undefined {
  const here = keysAt(schema, path);
  const close = mostAlike(unknown, here);
  if (close !== undefined) return dotted([...path, close]);
  return allKeys(schema).find((key) => key.split('.').at(-1) === unknown) ?? mostAlike(unknown, allKeys(schema));
}

function mostAlike(word: string, candidates: readonly string[]): string | undefined {
  const ranked = candidates.map((key) => ({ key, distance: editDistance(word.toLowerCase(), key) }));
  ranked.sort((a, b) => a.distance - b.distance);
  const [best] = ranked;
  return best && best.distance <= Math.max(2, Math.floor(word.length / 3)) ? best.key : undefined;
}

/** Levenshtein: insertions, deletions and replacements that turn `a` into `b`. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
