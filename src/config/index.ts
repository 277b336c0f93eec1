import type { z } from 'zod';
import { CaissonError } from '../lib/errors.ts';
import { describeSchema, dotted, nearestKey } from './keys.ts';
import { mergeLayers, readLayers } from './layers.ts';
import type { Layer, Merged } from './layers.ts';
import { configSchema } from './schema.ts';
import type { Config } from './schema.ts';

export type { Config } from './schema.ts';

export const DEFAULT_PATH = '/etc/caisson/config.toml';

/** What the command line says; wins over every file. */
export interface Overrides {
  readonly root?: string | undefined;
  readonly state?: string | undefined;
  readonly socket?: string | undefined;
  readonly logLevel?: string | undefined;
}

export interface Loaded {
  readonly config: Config;
  /** what was merged, in order: files, then the command line */
  readonly sources: readonly string[];
}

/** Reads the file (which may be missing at its default place) and the drop-ins in `config.d` beside it. */
export async function load(path?: string, overrides: Overrides = {}): Promise<Config> {
  return (await loadWithSources(path, overrides)).config;
}

export async function loadWithSources(path?: string, overrides: Overrides = {}): Promise<Loaded> {
  const layers = await readLayers(path ?? DEFAULT_PATH, path !== undefined);
  const commandLine = commandLineLayer(overrides);
  if (Object.keys(commandLine.values).length > 0) layers.push(commandLine);
  const merged = mergeLayers(layers);
  followState(merged);
  const result = configSchema.safeParse(merged.values);
  if (!result.success) throw invalid(result.error.issues, merged.origins);
  return { config: result.data, sources: layers.map((layer) => layer.source) };
}

function commandLineLayer(overrides: Overrides): Layer {
  const { root, state, socket, logLevel } = overrides;
  return {
    source: 'command line',
    values: {
      ...(root !== undefined && { root }),
      ...(state !== undefined && { state }),
      ...(socket !== undefined && { socket }),
      ...(logLevel !== undefined && { log: { level: logLevel } }),
    },
  };
}

/** A socket that nobody chose lies in the state directory, so that two daemons with their own never share one. */
function followState(merged: Merged): void {
  const { state, socket } = merged.values;
  if (socket === undefined && typeof state === 'string') merged.values['socket'] = `${state}/caisson.sock`;
}

/** All that is wrong at once, a line each: file, key, and what it should be. */
function invalid(issues: readonly z.core.$ZodIssue[], origins: ReadonlyMap<string, string>): CaissonError {
  const lines = issues.flatMap((issue) => describeIssue(issue, origins));
  return new CaissonError('invalid_argument', lines.join('\n'), {
    hint: '`caisson config --default` prints every key with its meaning',
  });
}

function describeIssue(issue: z.core.$ZodIssue, origins: ReadonlyMap<string, string>): string[] {
  if (issue.code !== 'unrecognized_keys') {
    return [`${originOf(issue.path, origins)}: ${dotted(issue.path) || 'file'}: ${plainWords(issue)}`];
  }
  return issue.keys.map((key) => {
    const path = [...issue.path, key];
    const nearest = nearestKey(describeSchema(), issue.path, key);
    const advice = nearest === undefined ? '' : `; did you mean ${nearest}?`;
    return `${originOf(path, origins)}: unknown key ${dotted(path)}${advice}`;
  });
}

/** The source of the innermost key on `path` that one of them set. */
function originOf(path: readonly PropertyKey[], origins: ReadonlyMap<string, string>): string {
  for (let length = path.length; length > 0; length--) {
    const origin = origins.get(dotted(path.slice(0, length)));
    if (origin !== undefined) return origin;
  }
  return 'configuration';
}

function plainWords(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type' && issue.message.endsWith('received undefined')) return 'is missing';
  const text = issue.message.replace(/^Invalid (input|option|string): /, '').replaceAll('"', '');
  return text.replace(/^must start with \/$/, 'must be an absolute path').replaceAll('|', ', ');
}
