import type { MemoryChoice, VmSpec, VsockTransport } from './contracts.ts';

/**
 * How a clone comes by its memory. Helpers that carry a device (vhost-user) map the guest's memory too, which a private
 * mapping does not allow.
 */
export function memoryOf({ dense = false }: Pick<VmSpec, 'dense'>, transport: VsockTransport): MemoryChoice {
  if (transport === 'vhost-user-vsock')
    return { kind: 'copied', reason: 'vhost-device-vsock carries its vsock and must share its memory' };
  if (!dense) return { kind: 'copied', reason: 'virtiofsd may come to serve volumes and must share its memory' };
  return { kind: 'private', reason: "no helper shares its memory: pages are the template's until they are written" };
}
