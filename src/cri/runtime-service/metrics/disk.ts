import type { DeviceIo } from '../../../pod/contracts.ts';
import { counter, gauge, type Family, type Subject } from './family.ts';

/** cAdvisor's label for the device; of a guest only its numbers are known here. */
const DEVICE = ['device'];
const nameOf = ({ major, minor }: DeviceIo): string => `${major}:${minor}`;

const perDevice = (name: string, help: string, read: (io: DeviceIo) => number): Family => ({
  ...counter(name, help, () => undefined),
  labels: DEVICE,
  read: ({ sample }) => sample.cgroup.io.map((io) => ({ labels: [nameOf(io)], value: read(io) })),
});

/** A number of the disk that the pod's containers write to. */
const ofScratch = (name: string, help: string, read: (scratch: Scratch) => number): Family => ({
  ...gauge(name, help, () => undefined),
  labels: DEVICE,
  read: ({ pod }) => (pod.scratch ? [{ labels: ['scratch'], value: read(pod.scratch) }] : []),
});
type Scratch = NonNullable<Subject['pod']['scratch']>;

export const diskFamilies: readonly Family[] = [
  perDevice('container_fs_reads_bytes_total', 'Bytes read.', (io) => io.readBytes),
  perDevice('container_fs_reads_total', 'Reads.', (io) => io.reads),
  perDevice('container_fs_writes_bytes_total', 'Bytes written.', (io) => io.writtenBytes),
  perDevice('container_fs_writes_total', 'Writes.', (io) => io.writes),
  {
    ...counter('container_blkio_device_usage_total', 'Bytes read and written.', () => undefined),
    labels: ['device', 'major', 'minor', 'operation'],
    read: ({ sample }) =>
      sample.cgroup.io.flatMap((io) => {
        const device = [nameOf(io), String(io.major), String(io.minor)];
        return [
          { labels: [...device, 'Read'], value: io.readBytes },
          { labels: [...device, 'Write'], value: io.writtenBytes },
        ];
      }),
  },
  ofScratch('container_fs_limit_bytes', "Size of the pod's disk.", ({ totalBytes }) => totalBytes),
  ofScratch('container_fs_inodes_total', "Inodes of the pod's disk.", ({ inodes }) => inodes),
  ofScratch('container_fs_inodes_free', "Free inodes of the pod's disk.", ({ freeInodes }) => freeInodes),
  {
    ...gauge('container_fs_usage_bytes', 'Bytes that the container has written and not deleted.', () => undefined),
    labels: DEVICE,
    read: ({ container, pod }) => {
      if (container) {
        const written = container.sample?.written;
        return written ? [{ labels: ['scratch'], value: written.usedBytes }] : [];
      }
      const { scratch } = pod;
      return scratch ? [{ labels: ['scratch'], value: scratch.totalBytes - scratch.freeBytes }] : [];
    },
  },
];
