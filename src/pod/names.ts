import type { ContainerConfig, PodSandboxConfig } from './contracts.ts';

/** Names are unique while the sandbox or container exists: the same attempt cannot be made twice. */
export function sandboxName({ metadata }: PodSandboxConfig): string {
  return [metadata?.name, metadata?.namespace, metadata?.uid, metadata?.attempt].join('/');
}

export function containerName(sandboxId: string, { metadata }: ContainerConfig): string {
  return [sandboxId, metadata?.name, metadata?.attempt].join('/');
}
