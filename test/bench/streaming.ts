/** Exec, port-forward and terminals: how much they carry, how quickly they answer, and whom they hold up. */
import type { CriConnection } from '../../src/lib/grpc/cri-client.ts';
import { addContainer, endPod, SLEEPER, startIdlePod, timed, type RunningPod } from './operations.ts';
import type { Peer } from './peer.ts';
import { median } from './statistics.ts';
import {
  drain,
  drainSsh,
  forwarding,
  readAll,
  startDrain,
  typeKeys,
  typeKeysSsh,
  type Forwarding,
  type SshTarget,
  type Transport,
} from './stream-clients.ts';

const MIB = 1024 * 1024;
const PORT = 9000;

export interface StreamPlan {
  /** of each bulk transfer */
  readonly mib: number;
  readonly keys: number;
  readonly execs: number;
  /** containers stopped with nothing else going on, and with each kind of stream */
  readonly stops: number;
}

export interface StreamFigures {
  /** MiB/s */
  readonly exec: Readonly<Record<Transport, number>>;
  readonly portForward: number;
  /** `ms`, of each key */
  readonly keys: readonly number[];
  /** the same two by ssh, where there is such a door */
  readonly ssh: SshFigures | undefined;
  /** `ms` until the last one has its exit code */
  readonly execs: number;
  /** `ms`, medians */
  readonly stop: { readonly idle: number; readonly execFlows: number; readonly portForwardFlows: number };
}

export interface SshFigures {
  /** MiB/s */
  readonly rate: number;
  /** `ms`, of each key */
  readonly keys: readonly number[];
}

export async function measureStreaming(peer: Peer, plan: StreamPlan, signal: AbortSignal): Promise<StreamFigures> {
  await peer.settled(signal);
  const pod = await startIdlePod(peer, signal);
  try {
    await serve(peer.cri, pod, plan.mib);
    return {
      exec: {
        spdy: await execRate(peer, pod, 'spdy', plan, signal),
        websocket: await execRate(peer, pod, 'websocket', plan, signal),
      },
      portForward: await forwardRate(peer, pod, plan, signal),
      keys: await keyTimes(peer, pod, plan, signal),
      ssh: await sshFigures(peer, pod, plan, signal),
      execs: await parallelExecs(peer, pod, plan, signal),
      stop: await stopTimes(peer, pod, plan, signal),
    };
  } finally {
    await endPod(peer, pod.podId, {});
  }
}

/** A port of the pod that sends so much to whoever connects, and one that never ends. */
async function serve({ runtime }: CriConnection, { containerId }: RunningPod, mib: number): Promise<void> {
  const script = [`nc -ll -p ${PORT} -e head -c ${mib * MIB} /dev/zero`, `nc -ll -p ${PORT + 1} -e cat /dev/zero`].map(
    (command) => `${command} >/dev/null 2>&1 </dev/null &`,
  );
  const wait = [PORT, PORT + 1].map((port) => `until netstat -ltn | grep -q :${port}; do sleep 0.1; done`);
  const cmd = ['sh', '-c', [...script, ...wait].join('\n')];
  await runtime.ExecSync({ container_id: containerId, cmd, timeout: '60' });
}

async function execUrl({ cri }: Peer, { containerId }: RunningPod, cmd: string[], tty = false): Promise<string> {
  const request = { container_id: containerId, cmd, stdin: tty, stdout: true, stderr: !tty, tty };
  return (await cri.runtime.Exec(request)).url;
}

async function execRate(
  peer: Peer,
  pod: RunningPod,
  transport: Transport,
  { mib }: StreamPlan,
  signal: AbortSignal,
): Promise<number> {
  const url = await execUrl(peer, pod, ['head', '-c', String(mib * MIB), '/dev/zero']);
  const [ms] = await timed(() => drain(transport, url, signal));
  return mib / (ms / 1000);
}

async function forward(peer: Peer, { podId }: RunningPod, port: number, signal: AbortSignal): Promise<Forwarding> {
  const { url } = await peer.cri.runtime.PortForward({ pod_sandbox_id: podId, port: [port] });
  return forwarding('spdy', url, port, signal);
}

async function forwardRate(peer: Peer, pod: RunningPod, { mib }: StreamPlan, signal: AbortSignal): Promise<number> {
  await using client = await forward(peer, pod, PORT, signal);
  const [ms, bytes] = await timed(() => readAll(client.localPort, signal));
  if (bytes !== mib * MIB) throw new Error(`${peer.name}: ${bytes} bytes came through port-forward`);
  return mib / (ms / 1000);
}

async function keyTimes(peer: Peer, pod: RunningPod, { keys }: StreamPlan, signal: AbortSignal): Promise<number[]> {
  return typeKeys('spdy', await execUrl(peer, pod, ['cat'], true), keys, signal);
}

async function sshFigures(
  { sshConfig }: Peer,
  { config }: RunningPod,
  { mib, keys }: StreamPlan,
  signal: AbortSignal,
): Promise<SshFigures | undefined> {
  if (sshConfig === undefined) return undefined;
  const { name, namespace } = config.metadata;
  const target: SshTarget = { config: sshConfig, host: `${SLEEPER}.${name}.${namespace}.caisson` };
  const [ms] = await timed(() => drainSsh(target, `head -c ${mib * MIB} /dev/zero`, signal));
  return { rate: mib / (ms / 1000), keys: await typeKeysSsh(target, keys, signal) };
}

async function parallelExecs(peer: Peer, pod: RunningPod, { execs }: StreamPlan, signal: AbortSignal): Promise<number> {
  const [ms] = await timed(() =>
    Promise.all(Array.from({ length: execs }, async () => drain('spdy', await execUrl(peer, pod, ['true']), signal))),
  );
  return ms;
}

async function stopTimes(
  peer: Peer,
  pod: RunningPod,
  { stops }: StreamPlan,
  signal: AbortSignal,
): Promise<StreamFigures['stop']> {
  const containers: string[] = [];
  for (let i = 0; i < 3 * stops; i++) containers.push(await addContainer(peer, pod, `stop-${i}`, { signal }));
  const stop = async (): Promise<number> => {
    const times: number[] = [];
    for (const container_id of containers.splice(0, stops))
      times.push((await timed(() => peer.cri.runtime.StopContainer({ container_id }, { signal })))[0]);
    return median(times);
  };
  const idle = await stop();
  const flowing = startDrain('spdy', await execUrl(peer, pod, ['cat', '/dev/zero']), new AbortController().signal);
  const execFlows = await stop();
  flowing.kill();
  await using client = await forward(peer, pod, PORT + 1, signal);
  const over = new AbortController();
  const reading = readAll(client.localPort, AbortSignal.any([signal, over.signal])).catch(() => 0);
  const portForwardFlows = await stop();
  over.abort();
  await reading;
  return { idle, execFlows, portForwardFlows };
}
