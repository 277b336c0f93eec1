/** Filtered lists of what the registries hold. */
import type { PodContext } from './context.ts';
import type { ContainerFilter, ContainerView, SandboxFilter, SandboxView } from './contracts.ts';
import { containerView, sandboxView } from './records.ts';

export function listSandboxes(context: Pick<PodContext, 'sandboxes'>, filter: SandboxFilter): SandboxView[] {
  return context.sandboxes
    .entries()
    .filter(([, record]) => record.state !== 'creating')
    .map(([id, record]) => sandboxView(id, record))
    .filter((view) => !filter.id || view.id.startsWith(filter.id))
    .filter((view) => !filter.state || view.state === filter.state)
    .filter((view) => hasLabels(view.labels, filter.labels))
    .toArray();
}

export function listContainers(context: Pick<PodContext, 'containers'>, filter: ContainerFilter): ContainerView[] {
  return context.containers
    .entries()
    .filter(([, record]) => record.state !== 'creating')
    .map(([id, record]) => containerView(id, record))
    .filter((view) => !filter.id || view.id.startsWith(filter.id))
    .filter((view) => !filter.sandboxId || view.sandboxId.startsWith(filter.sandboxId))
    .filter((view) => !filter.state || view.state === filter.state)
    .filter((view) => hasLabels(view.labels, filter.labels))
    .toArray();
}

function hasLabels(labels: Readonly<Record<string, string>>, wanted: Readonly<Record<string, string>> = {}): boolean {
  return Object.entries(wanted).every(([key, value]) => labels[key] === value);
}
