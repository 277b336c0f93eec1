import { CaissonError } from '../lib/errors.ts';
import type { PodContext } from './context.ts';
import type { LinuxContainerResources } from './contracts.ts';
import { requireLive } from './live.ts';
import { ociLimits } from './oci-resources.ts';
import { growSandbox, sizeOf, type Limits } from './sizing.ts';

/** Changes the limits of a container, after giving its VM what they need. What is 0 or empty stays as it is. */
export async function updateContainerResources(
  context: PodContext,
  id: string,
  asked: LinuxContainerResources,
  signal: AbortSignal,
): Promise<void> {
  await context.locks.run(id, async () => {
    const { sandboxId, state, resources } = context.containers.get(id);
    if (state !== 'running' && state !== 'created')
      throw new CaissonError(
        'failed_precondition',
        `container ${id} is ${state}: only a created or running one changes`,
      );
    const limits = ociLimits(asked);
    const live = requireLive(context, sandboxId);
    const merged = merge(resources, asked);
    const wanted = sizeOf(context, sandboxId, context.sandboxes.get(sandboxId), { containerId: id, limits: merged });
    await growSandbox(context, sandboxId, wanted, signal);
    await live.agent.updateContainer(id, limits, signal);
    context.containers.update(id, { resources: merged });
  });
}

/** Changes what the pod as a whole asks; its VM grows, its containers keep their limits. */
export async function updateSandboxResources(
  context: PodContext,
  id: string,
  asked: { readonly resources: Limits; readonly overhead: Limits },
  signal: AbortSignal,
): Promise<void> {
  await context.locks.run(id, async () => {
    requireLive(context, id);
    const { resources, overhead } = context.sandboxes.get(id);
    const changed = {
      resources: asked.resources ? merge(resources, asked.resources) : resources,
      overhead: asked.overhead ? merge(overhead, asked.overhead) : overhead,
    };
    await growSandbox(context, id, sizeOf(context, id, changed), signal);
    context.sandboxes.update(id, changed);
  });
}

/** proto3's zero values mean that nothing was said. */
function merge(before: Limits, asked: LinuxContainerResources): LinuxContainerResources {
  if (!before) return asked;
  const said = Object.entries(asked).filter(([, value]) => !isZero(value));
  return { ...before, ...Object.fromEntries(said) };
}

function isZero(value: unknown): boolean {
  if (Array.isArray(value)) return value.length === 0;
  if (typeof value === 'object' && value !== null) return Object.keys(value).length === 0;
  return value === '0' || value === '' || value === null;
}
