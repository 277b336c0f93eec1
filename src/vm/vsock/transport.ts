import { existsSync } from 'node:fs';
import type { Config } from '../../config/schema.ts';
import type { VsockTransport } from '../contracts.ts';

export function chooseTransport(wanted: Config['vm']['transport']): VsockTransport {
  if (wanted !== 'auto') return wanted;
  return existsSync('/dev/vhost-vsock') ? 'vhost-vsock' : 'vhost-user-vsock';
}
