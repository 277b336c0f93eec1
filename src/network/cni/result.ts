import { CaissonError } from '../../lib/errors.ts';
import type { CniDns } from '../contracts.ts';
import { resultSchema } from './types.ts';
import type { CniResult } from './types.ts';

/** Parses what ADD printed. Throws `unavailable` that names the plugin. */
export function parseResult(printed: string, plugin: string): CniResult {
  let content: unknown;
  try {
    content = JSON.parse(printed);
  } catch (error) {
    throw noResult(plugin, `${JSON.stringify(printed.slice(0, 80))} is not JSON`, error);
  }
  const parsed = resultSchema.safeParse(content);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw noResult(plugin, `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'unknown'}`, parsed.error);
}

function noResult(plugin: string, why: string, cause: unknown): CaissonError {
  return new CaissonError('unavailable', `CNI plugin ${plugin} (ADD) printed no valid result: ${why}`, { cause });
}

export interface ResultAddress {
  /** without prefix length */
  readonly ip: string;
  readonly prefixLength: number;
  readonly gateway?: string;
}

/** The addresses that the result gives to the pod's interface, in the plugins' order. */
export function podAddresses(result: CniResult, ifName: string): ResultAddress[] {
  return result.ips.flatMap((entry) => {
    const owner = entry.interface === undefined ? undefined : result.interfaces[entry.interface];
    if (owner && (owner.name !== ifName || (owner.sandbox ?? '') === '')) return [];
    const [ip = '', prefix = ''] = entry.address.split('/');
    const gateway = entry.gateway === undefined || entry.gateway === '' ? {} : { gateway: entry.gateway };
    return [{ ip, prefixLength: Number(prefix), ...gateway }];
  });
}

/** Names of the interfaces that the plugins made on the host's side. */
export function hostInterfaces(result: CniResult): string[] {
  return result.interfaces.filter((entry) => (entry.sandbox ?? '') === '').map((entry) => entry.name);
}

export function resultDns({ dns }: CniResult): CniDns {
  const search = dns.domain === undefined || dns.search.includes(dns.domain) ? dns.search : [dns.domain, ...dns.search];
  return { nameservers: dns.nameservers, search, options: dns.options };
}
