import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { loadWithSources } from '../config/index.ts';
import type { Loaded, Overrides } from '../config/index.ts';
import type { Config } from '../config/schema.ts';

/** The checkout that this file is part of. */
export const REPOSITORY = resolve(import.meta.dirname, '../..');

interface GlobalOptions extends Overrides {
  readonly config?: string;
}

/** Every command takes these, before or after its own name. */
export function addGlobalOptions(program: Command): void {
  program
    .option(
      '--config <file>',
      'configuration file; drop-ins are in config.d beside it (default: /etc/caisson/config.toml)',
    )
    .option('--root <directory>', 'what survives a reboot: images, disks, database')
    .option('--state <directory>', 'what does not: sockets and files of running VMs')
    .option('--socket <path>', 'CRI socket (default: caisson.sock in the state directory)')
    .option('--log-level <level>', 'trace, debug, info, warn or error');
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
