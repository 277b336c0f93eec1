import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Option, type Command } from 'commander';
import { loadWithSources } from '../config/index.ts';
import type { Loaded, Overrides } from '../config/index.ts';
import type { Config } from '../config/schema.ts';

/** The checkout that this file is part of. */
export const REPOSITORY = resolve(import.meta.dirname, '../..');

interface GlobalOptions extends Overrides {
  readonly config?: string;
}

const GLOBAL_OPTIONS = [
  ['--config <file>', 'configuration file; drop-ins are in config.d beside it (default: /etc/caisson/config.toml)'],
  ['--root <directory>', 'what survives a reboot: images, disks, database'],
  ['--state <directory>', 'what does not: sockets and files of running VMs'],
  ['--socket <path>', 'CRI socket (default: caisson.sock in the state directory)'],
  ['--log-level <level>', 'trace, debug, info, warn or error'],
] as const;

/** Every command takes these, before or after its own name. */
export function addGlobalOptions(command: Command, { hidden = false } = {}): void {
  for (const [flags, description] of GLOBAL_OPTIONS) {
    const option = new Option(flags, description);
    command.addOption(hidden ? option.hideHelp() : option);
  }
}

export async function configOf(command: Command): Promise<Config> {
  return (await loadedConfigOf(command)).config;
}

export async function loadedConfigOf(command: Command): Promise<Loaded> {
  const { config, ...overrides } = command.optsWithGlobals<GlobalOptions>();
  return loadWithSources(config, {
    ...overrides,
    root: absolute(overrides.root),
    state: absolute(overrides.state),
    socket: absolute(overrides.socket),
  });
}

/** On a command line, unlike in a file, a path may be relative. */
function absolute(path: string | undefined): string | undefined {
  return path === undefined ? undefined : resolve(path);
}

export function caissonVersion(): string {
  const text = readFileSync(resolve(REPOSITORY, 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
