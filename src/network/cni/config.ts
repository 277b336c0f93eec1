import { access, constants, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { z } from 'zod';
import { CaissonError, describeError, isErrno } from '../../lib/errors.ts';
import { networkFileSchema, supportedVersions } from './types.ts';
import type { CniNetwork, CniVersion } from './types.ts';

/** A file of conf_dir that cannot be used, and why. */
export interface SkippedFile {
  readonly file: string;
  readonly reason: string;
}

export interface LoadedConfig {
  /** undefined: `problem` says why there is none */
  readonly network?: CniNetwork;
  readonly problem?: string;
  readonly skipped: readonly SkippedFile[];
}

const CONFIG_FILE = /\.(conflist|conf|json)$/;

/** Reads the first usable configuration of the directory, by name. Never throws: what is wrong is in the answer. */
export async function loadConfig(confDir: string): Promise<LoadedConfig> {
  const names = await readdir(confDir).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return [];
    return describeError(error);
  });
  if (typeof names === 'string') return { skipped: [], problem: `cannot read ${confDir}: ${names}` };
  const skipped: SkippedFile[] = [];
  for (const name of names.filter((entry) => CONFIG_FILE.test(entry)).toSorted()) {
    const file = join(confDir, name);
    try {
      return { network: parseNetwork(await readFile(file, 'utf8'), file), skipped };
    } catch (error) {
      skipped.push({ file, reason: describeError(error) });
    }
  }
  const first = skipped[0];
  const problem = first
    ? `no usable CNI configuration in ${confDir}: ${first.file}: ${first.reason}`
    : `no CNI configuration in ${confDir}: put a conflist there`;
  return { skipped, problem };
}

/** Parses a conflist, or a single plugin's configuration as a list of one. Throws `failed_precondition`. */
export function parseNetwork(text: string, source: string): CniNetwork {
  const content: unknown = parseJson(text);
  const list = isPluginAlone(content) ? { ...content, plugins: [content] } : content;
  const parsed = networkFileSchema.safeParse(list);
  if (!parsed.success) throw invalid(issues(parsed.error));
  const { name, plugins, disableCheck, cniVersion, cniVersions } = parsed.data;
  return { name, plugins, disableCheck, source, cniVersion: pickVersion(cniVersion, cniVersions ?? []) };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalid(describeError(error), error);
  }
}

function isPluginAlone(content: unknown): content is object {
  return typeof content === 'object' && content !== null && 'type' in content && !('plugins' in content);
}

/** The highest version that both the file and Caisson know. */
function pickVersion(version: string | undefined, alternatives: readonly string[]): CniVersion {
  const offered = new Set(version === undefined ? alternatives : [version, ...alternatives]);
  const best = supportedVersions.findLast((known) => offered.has(known));
  if (best !== undefined) return best;
  const said = offered.size === 0 ? 'no cniVersion' : `cniVersion ${[...offered].join(', ')}`;
  throw invalid(`${said}: Caisson speaks ${supportedVersions.join(', ')}`);
}

function issues(error: z.ZodError): string {
  return error.issues.map((issue) => `${issue.path.join('.') || 'file'}: ${issue.message}`).join('; ');
}

function invalid(message: string, cause?: unknown): CaissonError {
  return new CaissonError('failed_precondition', message, { cause });
}

/** The plugin's file, from the first of the directories that has it. Throws `unavailable` that names them. */
export async function findPlugin(type: string, binDirs: readonly string[]): Promise<string> {
  for (const directory of binDirs) {
    const file = join(directory, type);
    const runnable = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (runnable) return file;
  }
  throw new CaissonError('unavailable', `CNI plugin ${type} is in none of ${binDirs.join(', ')}`, {
    hint: 'install it, or set network.bin_dirs',
  });
}
