import { stringify } from 'smol-toml';
import { describeSchema } from './keys.ts';
import type { KeySchema } from './keys.ts';
import type { Config } from './schema.ts';

const HEADER = `# Configuration of caisson: /etc/caisson/config.toml
# Files /etc/caisson/config.d/*.toml are merged over it in lexical order, key by key.
# Every key is shown with its default; remove the # in front of one to change it.
`;

/** A file that documents every key; as it stands it configures nothing but defaults. */
export function defaultTemplate(): string {
  const sections = tableLines(describeSchema(), []);
  return `${HEADER}\n${sections.join('\n').trimEnd()}\n`;
}

export function effectiveToml(config: Config, sources: readonly string[]): string {
  const from = sources.length === 0 ? 'defaults only' : sources.join(', ');
  return `# from: ${from}\n${stringify(config)}`;
}

/** Plain keys first: in TOML, whatever follows a table header belongs to that table. */
function tableLines(table: KeySchema, path: readonly string[]): string[] {
  const entries = Object.entries(table.properties ?? {});
  const plain = entries.filter(([, child]) => !child.properties && !child.items?.properties);
  const tables = entries.filter(([, child]) => child.properties);
  const lists = entries.filter(([, child]) => child.items?.properties);
  return [
    ...plain.flatMap(([key, child]) => [...comment(child), setting(key, child, path), '']),
    ...tables.flatMap(([key, child]) => [`[${[...path, key].join('.')}]`, '', ...tableLines(child, [...path, key])]),
    ...lists.flatMap(([key, child]) => listLines(child, [...path, key])),
  ];
}

/** The version is set, so that a later version knows which format it reads. */
function setting(key: string, schema: KeySchema, path: readonly string[]): string {
  const line = stringify({ [key]: schema.default }).trim();
  return path.length === 0 && key === 'version' ? line : `#${line}`;
}

/** An array of tables has no entries by default: one is shown whole as an example. */
function listLines(list: KeySchema, path: readonly string[]): string[] {
  const entries = Object.entries(list.items?.properties ?? {});
  const plain = entries.filter(([, child]) => !child.items?.properties);
  const nested = entries.filter(([, child]) => child.items?.properties);
  return [
    ...comment(list),
    `#[[${path.join('.')}]]`,
    ...plain.map(([key, child]) => `#${example(key, child)}  # ${child.description ?? ''}`),
    '',
    ...nested.flatMap(([key, child]) => listLines(child, [...path, key])),
  ];
}

function example(key: string, schema: KeySchema): string {
  return stringify({ [key]: schema.default ?? '...' }).trim();
}

function comment(schema: KeySchema): string[] {
  const choices = schema.enum ? ` (${schema.enum.join(', ')})` : '';
  return schema.description === undefined ? [] : [`# ${schema.description}${choices}`];
}
