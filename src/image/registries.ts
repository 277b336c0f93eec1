import { stringify } from 'smol-toml';
import type { Config } from '../config/schema.ts';

export type RegistryEntry = Config['image']['registry'][number];

/**
 * Our registries as a registries.conf(5) drop-in. skopeo reads it after the system's registries.conf and its drop-ins,
 * where an entry replaces an earlier one of the same prefix.
 */
export function registriesToml(entries: readonly RegistryEntry[]): string {
  return stringify({ registry: entries.map(registryTable) });
}

function registryTable(entry: RegistryEntry) {
  // skopeo looks up `blocked` under the location: one that points elsewhere would let the pull through
  const location = entry.blocked ? undefined : entry.location;
  const ownName = entry.prefix.startsWith('*.') ? undefined : entry.prefix;
  return {
    prefix: entry.prefix,
    ...((location ?? ownName) !== undefined && { location: location ?? ownName }),
    insecure: entry.insecure,
    blocked: entry.blocked,
    mirror: entry.blocked ? [] : entry.mirror.map(({ location: host, insecure }) => ({ location: host, insecure })),
  };
}

/** Where our configuration says that a repository really is, host[:port][/path]; undefined: under its own name. */
export function relocated(entries: readonly RegistryEntry[], repository: string): string | undefined {
  const matching = entries.filter(({ prefix }) => repository === prefix || repository.startsWith(`${prefix}/`));
  return matching.toSorted((a, b) => b.prefix.length - a.prefix.length)[0]?.location;
}
