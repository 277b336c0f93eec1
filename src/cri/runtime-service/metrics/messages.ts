import type { Metric } from '../../../../proto/generated/runtime/runtime/v1/Metric.ts';
import type { MetricDescriptor } from '../../../../proto/generated/runtime/runtime/v1/MetricDescriptor.ts';
import type { PodSandboxMetrics } from '../../../../proto/generated/runtime/runtime/v1/PodSandboxMetrics.ts';
import type { SandboxStatsView } from '../../../pod/contracts.ts';
import { cpuFamilies } from './cpu.ts';
import { diskFamilies } from './disk.ts';
import type { Family, Subject } from './family.ts';
import { limitFamilies } from './limits.ts';
import { memoryFamilies } from './memory.ts';
import { networkFamilies } from './network.ts';
import { pressureFamilies } from './pressure.ts';
import { processFamilies } from './processes.ts';

export const families: readonly Family[] = [
  ...cpuFamilies,
  ...memoryFamilies,
  ...diskFamilies,
  ...processFamilies,
  ...pressureFamilies,
  ...limitFamilies,
  ...networkFamilies,
];

/** Of every metric, before the family's own; as cAdvisor's series in the kubelet have them. */
const COMMON_LABELS = ['container', 'id', 'image', 'name', 'namespace', 'pod'];

export function metricDescriptors(): MetricDescriptor[] {
  return families.map(({ name, help, labels }) => ({ name, help, label_keys: [...COMMON_LABELS, ...labels] }));
}

/** Labels of the pod as a whole are empty where those of a container name it. */
export function toPodSandboxMetrics(view: SandboxStatsView): PodSandboxMetrics {
  const { sandbox, sample, containers } = view;
  return {
    pod_sandbox_id: sandbox.id,
    metrics: sample ? metricsOf({ sample, pod: view, container: undefined }) : [],
    container_metrics: containers.flatMap((container) =>
      container.sample
        ? [
            {
              container_id: container.container.id,
              metrics: metricsOf({ sample: container.sample, pod: view, container }),
            },
          ]
        : [],
    ),
  };
}

function metricsOf(subject: Subject): Metric[] {
  const common = commonLabels(subject);
  return families.flatMap(({ name, type, read }) =>
    read(subject).map(({ labels = [], value }) => ({
      name,
      timestamp: subject.sample.timestamp,
      metric_type: type,
      label_values: [...common, ...labels],
      value: { value: Math.floor(value) },
    })),
  );
}

function commonLabels({ pod, container }: Subject): string[] {
  const { namespace, name } = pod.sandbox.metadata;
  if (!container) return ['', pod.sandbox.id, '', '', namespace, name];
  const { id, image, metadata } = container.container;
  return [metadata.name, id, image, id, namespace, name];
}
