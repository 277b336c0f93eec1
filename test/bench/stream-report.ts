import type { PeerName } from './peer.ts';
import { median, percentile, rounded } from './statistics.ts';
import type { HostSideFigures } from './streaming-host.ts';
import type { StreamFigures, StreamPlan } from './streaming.ts';
import { markdownTable } from './table.ts';

export type StreamResults = Readonly<Record<PeerName, StreamFigures>> & {
  readonly plan: StreamPlan;
  readonly hostSide: HostSideFigures;
};

interface PeerStreams {
  readonly exec_spdy_mib_s: number;
  readonly exec_websocket_mib_s: number;
  readonly port_forward_mib_s: number;
  readonly key_p50_ms: number;
  readonly key_p99_ms: number;
  /** missing where there is no such door */
  readonly ssh?: { readonly mib_s: number; readonly key_p50_ms: number; readonly key_p99_ms: number };
  readonly execs_at_once_ms: number;
  readonly stop_idle_ms: number;
  /** times the idle one */
  readonly stop_while_exec_flows: number;
  readonly stop_while_port_forward_flows: number;
}

/** What `--json` writes of streams. */
export interface StreamReport {
  readonly mib: number;
  readonly execs_at_once: number;
  readonly caisson: PeerStreams;
  readonly containerd: PeerStreams;
  /** the streaming server with a process of this machine in place of the agent */
  readonly host_side_mib_s: {
    readonly stdout_spdy: number;
    readonly stdout_websocket: number;
    readonly stdin_spdy: number;
    readonly stdin_websocket: number;
    readonly stdout_ssh: number;
  };
}

export function streamReport({
  plan,
  caisson,
  containerd,
  hostSide: { stdout, stdin, ssh },
}: StreamResults): StreamReport {
  return {
    mib: plan.mib,
    execs_at_once: plan.execs,
    caisson: peerStreams(caisson),
    containerd: peerStreams(containerd),
    host_side_mib_s: {
      stdout_spdy: Math.round(stdout.spdy.rate),
      stdout_websocket: Math.round(stdout.websocket.rate),
      stdin_spdy: Math.round(stdin.spdy.rate),
      stdin_websocket: Math.round(stdin.websocket.rate),
      stdout_ssh: Math.round(ssh.rate),
    },
  };
}

function peerStreams({ exec, portForward, keys, ssh, execs, stop }: StreamFigures): PeerStreams {
  return {
    exec_spdy_mib_s: rounded(exec.spdy, 1),
    exec_websocket_mib_s: rounded(exec.websocket, 1),
    port_forward_mib_s: rounded(portForward, 1),
    key_p50_ms: rounded(median(keys), 1),
    key_p99_ms: rounded(percentile(keys, 99), 1),
    ...(ssh && {
      ssh: {
        mib_s: rounded(ssh.rate, 1),
        key_p50_ms: rounded(median(ssh.keys), 1),
        key_p99_ms: rounded(percentile(ssh.keys, 99), 1),
      },
    }),
    execs_at_once_ms: Math.round(execs),
    stop_idle_ms: rounded(stop.idle, 1),
    stop_while_exec_flows: rounded(stop.execFlows / stop.idle, 2),
    stop_while_port_forward_flows: rounded(stop.portForwardFlows / stop.idle, 2),
  };
}

export function streamLines(report: StreamReport): string[] {
  const { caisson, containerd, mib, execs_at_once: execs, host_side_mib_s: host } = report;
  const both = (name: string, unit: string, of: (peer: PeerStreams) => number): string[] => [
    name,
    `${of(caisson)} ${unit}`,
    `${of(containerd)} ${unit}`,
  ];
  const alone = (name: string, rate: number): string[] => [`host side alone: ${name}`, `${rate} MiB/s`, ''];
  const { ssh } = caisson;
  const bySsh = ssh
    ? [
        [`ssh, ${mib} MiB of output`, `${ssh.mib_s} MiB/s`, ''],
        ['echo of a key by ssh, p50', `${ssh.key_p50_ms} ms`, ''],
        ['echo of a key by ssh, p99', `${ssh.key_p99_ms} ms`, ''],
      ]
    : [];
  return markdownTable(
    ['streams', 'Caisson', 'containerd'],
    [
      both(`exec, ${mib} MiB of output, SPDY`, 'MiB/s', (peer) => peer.exec_spdy_mib_s),
      both(`exec, ${mib} MiB of output, WebSocket`, 'MiB/s', (peer) => peer.exec_websocket_mib_s),
      both(`port-forward, ${mib} MiB from the pod`, 'MiB/s', (peer) => peer.port_forward_mib_s),
      both('echo of a key, p50', 'ms', (peer) => peer.key_p50_ms),
      both('echo of a key, p99', 'ms', (peer) => peer.key_p99_ms),
      ...bySsh,
      both(`${execs} execs at once`, 'ms', (peer) => peer.execs_at_once_ms),
      both('StopContainer', 'ms', (peer) => peer.stop_idle_ms),
      both('… while an exec of its pod sends all it can', 'times', (peer) => peer.stop_while_exec_flows),
      both('… while a port-forward does', 'times', (peer) => peer.stop_while_port_forward_flows),
      alone('stdout, SPDY', host.stdout_spdy),
      alone('stdout, WebSocket', host.stdout_websocket),
      alone('stdin, SPDY', host.stdin_spdy),
      alone('stdin, WebSocket', host.stdin_websocket),
      alone('stdout, ssh', host.stdout_ssh),
    ],
  );
}
