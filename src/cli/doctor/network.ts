import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../../config/schema.ts';
import { describeError, isErrno } from '../../lib/errors.ts';
import { exists, ignoreMissing } from '../../lib/files.ts';
import { fail, ok, SETUP, warn } from './check.ts';
import type { Check, Finding } from './check.ts';

export const networkChecks: readonly Check[] = [
  { name: '/dev/net/tun', why: "each VM's network card is a tap device", find: findTun },
  { name: 'cni configuration', why: 'without it the node is not ready and pods get no network', find: findCni },
];

async function findTun(): Promise<Finding> {
  const device = await stat('/dev/net/tun').catch(ignoreMissing(undefined));
  return device?.isCharacterDevice() ? ok('present') : fail('missing', 'modprobe tun');
}

/** The file that CNI users agree to use: the first by name. */
async function findCni({ network }: Config): Promise<Finding> {
  const names = await readdir(network.conf_dir).catch(ignoreMissing<string[]>([]));
  const [first] = names.filter((name) => /\.(conf|conflist|json)$/.test(name)).toSorted();
  if (first === undefined) {
    const fix = `${SETUP} writes one for a single node; a cluster's network add-on brings its own`;
    return fail(`no configuration in ${network.conf_dir}`, fix);
  }
  const path = join(network.conf_dir, first);
  try {
    return await findPlugins(path, pluginTypes(JSON.parse(await readFile(path, 'utf8'))), network);
  } catch (error) {
    if (isErrno(error, 'EACCES')) return warn(`${path} is readable by root only`, 'run caisson doctor as root');
    return fail(`${path}: ${describeError(error)}`, `correct ${path}: it must be CNI JSON`);
  }
}

async function findPlugins(path: string, types: readonly string[], network: Config['network']): Promise<Finding> {
  const missing: string[] = [];
  for (const type of types) {
    const places = await Promise.all(network.bin_dirs.map((directory) => exists(join(directory, type))));
    if (!places.includes(true)) missing.push(type);
  }
  if (types.length === 0) return fail(`${path} names no plugin`, `correct ${path}: plugins need a type`);
  if (missing.length === 0) return ok(`${path} (${types.join(', ')})`);
  const where = network.bin_dirs.join(', ');
  return fail(
    `${path} needs ${missing.join(', ')}, which is not in ${where}`,
    `${SETUP} installs the standard plugins`,
  );
}

/** The plugins of a list or of a single configuration, and the IPAM plugins they call. */
export function pluginTypes(config: unknown): string[] {
  const plugins = isRecord(config) && Array.isArray(config['plugins']) ? (config['plugins'] as unknown[]) : [config];
  const types = plugins.flatMap((plugin) => {
    if (!isRecord(plugin)) return [];
    const ipam = isRecord(plugin['ipam']) ? plugin['ipam']['type'] : undefined;
    return [plugin['type'], ipam];
  });
  return types.filter((type) => typeof type === 'string' && type !== '').map(String);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
