import type { InterfaceCounters } from '../../../pod/contracts.ts';
import { counter, type Family } from './family.ts';

/** Of the pod as a whole: its containers share one interface. */
export const networkFamilies: readonly Family[] = [
  traffic('container_network_receive_bytes_total', 'Bytes received.', ({ received }) => received.bytes),
  traffic('container_network_receive_errors_total', 'Errors while receiving.', ({ received }) => received.errors),
  traffic('container_network_receive_packets_total', 'Packets received.', ({ received }) => received.packets),
  traffic(
    'container_network_receive_packets_dropped_total',
    'Incoming packets dropped.',
    ({ received }) => received.dropped,
  ),
  traffic('container_network_transmit_bytes_total', 'Bytes sent.', ({ sent }) => sent.bytes),
  traffic('container_network_transmit_errors_total', 'Errors while sending.', ({ sent }) => sent.errors),
  traffic('container_network_transmit_packets_total', 'Packets sent.', ({ sent }) => sent.packets),
  traffic('container_network_transmit_packets_dropped_total', 'Outgoing packets dropped.', ({ sent }) => sent.dropped),
];

function traffic(name: string, help: string, read: (counters: InterfaceCounters) => number): Family {
  return {
    ...counter(name, help, () => undefined),
    labels: ['interface'],
    read: ({ pod, container }) => {
      if (container || !pod.network) return [];
      const { counters } = pod.network;
      return [{ labels: [counters.name], value: read(counters) }];
    },
  };
}
