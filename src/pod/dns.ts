import { readFile } from 'node:fs/promises';
import { ignoreMissing } from '../lib/files.ts';
import type { CniDns } from '../network/contracts.ts';
import type { PodSandboxConfig } from './contracts.ts';

/** The pod's resolv.conf: what the caller asks for, else what the CNI plugins say, else the node's own. */
export async function resolvConf(config: PodSandboxConfig, cni: CniDns | undefined): Promise<string> {
  const asked = config.dns_config;
  if (asked && asked.servers.length + asked.searches.length + asked.options.length > 0) {
    return format(asked.servers, asked.searches, asked.options);
  }
  if (cni && cni.nameservers.length > 0) return format(cni.nameservers, cni.search, cni.options);
  return readFile('/etc/resolv.conf', 'utf8').catch(ignoreMissing(''));
}

function format(servers: readonly string[], searches: readonly string[], options: readonly string[]): string {
  const lines = [
    ...(searches.length > 0 ? [`search ${searches.join(' ')}`] : []),
    ...servers.map((server) => `nameserver ${server}`),
    ...(options.length > 0 ? [`options ${options.join(' ')}`] : []),
  ];
  return `${lines.join('\n')}\n`;
}

/** For containers whose caller mounts no /etc/hosts of its own. */
export function hostsFile(hostname: string, ips: readonly string[]): string {
  const lines = [
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    ...ips.map((ip) => `${ip}\t${hostname}`),
  ];
  return `${lines.join('\n')}\n`;
}
