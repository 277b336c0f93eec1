import { randomBytes } from 'node:crypto';
import * as grpc from '@grpc/grpc-js';
import type { ProtoGrpcType } from '../../proto/generated/agent/agent.ts';
import type { AdjustClockResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/AdjustClockResponse.ts';
import type { ConfigureSandboxResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/ConfigureSandboxResponse.ts';
import type { CreateContainerResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/CreateContainerResponse.ts';
import type { GetInfoResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/GetInfoResponse.ts';
import type { GetStatsResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/GetStatsResponse.ts';
import type { OnlineProcessorsResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/OnlineProcessorsResponse.ts';
import type { UpdateContainerResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/UpdateContainerResponse.ts';
import type { RehearseNetworkResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/RehearseNetworkResponse.ts';
import type { RemoveContainerResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/RemoveContainerResponse.ts';
import type { FreezeContainerResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/FreezeContainerResponse.ts';
import type { SignalContainerResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/SignalContainerResponse.ts';
import type { WaitContainerResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/WaitContainerResponse.ts';
import type { SyncVolumeResponse__Output } from '../../proto/generated/agent/caisson/agent/v1/SyncVolumeResponse.ts';
import type { Volume } from '../../proto/generated/agent/caisson/agent/v1/Volume.ts';
import { CaissonError } from '../lib/errors.ts';
import { loadProto } from '../lib/grpc/load.ts';
import { traced } from '../lib/trace.ts';
import type { GuestInterface } from '../network/contracts.ts';
import type { AgentClient, GuestVolume, SandboxSettings } from './contracts.ts';
import { attachStart, execStart, openPort, openSession, SFTP_STREAMS, sftpStart, type OpenCalls } from './sessions.ts';
import { statsOf } from './stats.ts';
import { agentExit, readOutput, runExec, runStart } from './streams.ts';
import { agentError } from './status.ts';

const NS_PER_MS = 1_000_000n;
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
const WINDOW_BYTES = 1024 * 1024;

// Generous: under TCG, with all cores busy, a create takes seconds.
const CONTROL_DEADLINE_MS = 60_000;

/** in a VM, and of a user: more is no honest answer */
const MAX_CONTAINERS = 4096;
const MAX_GROUPS = 4096;

/** A guest that is too busy for it is asked again later. */
const STATS_DEADLINE_MS = 10_000;

// A connection that a guest has forgotten looks open: calls without a deadline would wait on it for ever.
const KEEPALIVE_MS = 30_000;
const CONTROL_SILENCE_MS = 60_000;
/** A guest that gets no processor answers late, and streams that are given up are lost; a VM's death is heard of anyway. */
const BULK_SILENCE_MS = 300_000;

const { Agent } = loadProto<ProtoGrpcType>('agent/v1/agent.proto').caisson.agent.v1;
type Stub = InstanceType<typeof Agent>;

/** A client over the VM's agent socket. Bulk streams have a connection of their own, so they never delay a kill. */
export function connectAgent(socketPath: string): AgentClient {
  const control = connect(socketPath, CONTROL_SILENCE_MS);
  const bulk = connect(socketPath, BULK_SILENCE_MS);
  const open: OpenCalls = new Set();
  let gone = false;
  /** gRPC's own error for a closed client says nothing of VMs. */
  const requireVm = (): void => {
    if (gone) throw vmGone();
  };
  /** One call with a deadline; waits for the connection to come up until then. */
  const unary = async <Response>(
    name: string,
    invoke: Invoke<Response>,
    signal?: AbortSignal,
    deadlineMs = CONTROL_DEADLINE_MS,
  ): Promise<Response> => {
    requireVm();
    return await traced(`agent ${name}`, () => answerOf(name, invoke, open, signal, deadlineMs));
  };
  const bulkCall = async <T>(work: (stub: Stub) => Promise<T>): Promise<T> => {
    requireVm();
    return await work(bulk);
  };
  return {
    info: async (signal) => {
      const info = await unary<GetInfoResponse__Output>('GetInfo', (...call) => control.GetInfo({}, ...call), signal);
      return {
        agentVersion: info.agent_version,
        kernelRelease: info.kernel_release,
        bootId: info.boot_id,
        configured: info.configured,
        containers: info.containers
          .slice(0, MAX_CONTAINERS)
          .map(({ id, started, exit }) => ({ id, started, exit: exit && agentExit(exit) })),
      };
    },
    rehearseNetwork: async (network, signal) => {
      await unary<RehearseNetworkResponse__Output>(
        'RehearseNetwork',
        (...call) => control.RehearseNetwork({ interface: interfaceMessage(network) }, ...call),
        signal,
      );
    },
    configureSandbox: async (settings, signal) => {
      await unary<ConfigureSandboxResponse__Output>(
        'ConfigureSandbox',
        (...call) => control.ConfigureSandbox(sandboxMessage(settings), ...call),
        signal,
      );
    },
    createContainer: async (settings, signal) => {
      const { user } = settings;
      const request = {
        id: settings.id,
        layer_serials: [...settings.layerSerials],
        oci_spec: Buffer.from(JSON.stringify(settings.ociSpec)),
        user: {
          user: user.user,
          ...(user.gid !== undefined && { gid: user.gid }),
          supplemental_groups: [...user.supplementalGroups],
          strict_groups: user.strictGroups,
        },
        stdin: settings.stdin,
        volumes: settings.volumes.map(volumeMessage),
        stdin_once: settings.stdinOnce,
        block_devices: [...settings.blockDevices],
        ...(settings.appArmor && { apparmor: { [settings.appArmor.kind]: settings.appArmor.data } }),
      };
      const { user: resolved } = await unary<CreateContainerResponse__Output>(
        'CreateContainer',
        (...call) => control.CreateContainer(request, ...call),
        signal,
      );
      return {
        uid: resolved?.uid ?? 0,
        gid: resolved?.gid ?? 0,
        supplementalGroups: (resolved?.supplemental_groups ?? []).slice(0, MAX_GROUPS),
      };
    },
    startContainer: async (id, signal) => {
      requireVm();
      return await traced('agent StartContainer', () => runStart(control, id, open, signal, CONTROL_DEADLINE_MS));
    },
    updateContainer: async (id, resources, signal) => {
      const request = { id, oci_resources: Buffer.from(JSON.stringify(resources)) };
      await unary<UpdateContainerResponse__Output>(
        'UpdateContainer',
        (...call) => control.UpdateContainer(request, ...call),
        signal,
      );
    },
    onlineProcessors: async (count, signal) => {
      await unary<OnlineProcessorsResponse__Output>(
        'OnlineProcessors',
        (...call) => control.OnlineProcessors({ count }, ...call),
        signal,
      );
    },
    adjustClock: async (byMs, { slowly }, signal) => {
      const request = { by_ns: String(BigInt(Math.round(byMs)) * NS_PER_MS), slowly };
      const { time_ns } = await unary<AdjustClockResponse__Output>(
        'AdjustClock',
        (...call) => control.AdjustClock(request, ...call),
        signal,
      );
      return Number(BigInt(time_ns) / NS_PER_MS);
    },
    freezeContainer: async (id, frozen) => {
      await unary<FreezeContainerResponse__Output>('FreezeContainer', (...call) =>
        control.FreezeContainer({ id, frozen }, ...call),
      );
    },
    signalContainer: async (id, signal, all) => {
      const { ignored } = await unary<SignalContainerResponse__Output>('SignalContainer', (...call) =>
        control.SignalContainer({ id, signal, all }, ...call),
      );
      return { ignored };
    },
    waitContainer: async (id) => {
      const { exit } = await unary<WaitContainerResponse__Output>(
        'WaitContainer',
        (...call) => control.WaitContainer({ id }, ...call),
        undefined,
        Infinity,
      );
      if (!exit) throw new CaissonError('internal', 'the guest agent reported no exit');
      return agentExit(exit);
    },
    syncVolume: async (id, number, data) => {
      const request = { container_id: id, volume: { number, data } };
      await unary<SyncVolumeResponse__Output>('SyncVolume', (...call) => control.SyncVolume(request, ...call));
    },
    removeContainer: async (id) => {
      await unary<RemoveContainerResponse__Output>('RemoveContainer', (...call) =>
        control.RemoveContainer({ id }, ...call),
      );
    },
    stats: async (details, signal) => {
      const message = await unary<GetStatsResponse__Output>(
        'GetStats',
        (...call) => control.GetStats({ details }, ...call),
        signal,
        STATS_DEADLINE_MS,
      );
      return statsOf(message);
    },
    output: (id, store) => bulkCall((stub) => readOutput(stub, id, store, open)),
    execSync: (id, command, timeoutMs, maxBytes, signal) =>
      bulkCall((stub) =>
        traced('agent ExecSync', () => runExec(stub, { id, command, timeoutMs, maxBytes }, open, signal)),
      ),
    exec: (settings, signal) =>
      bulkCall((stub) => openSession('Exec', stub.Exec(), execStart(settings), settings, open, signal)),
    attach: (id, streams, signal) =>
      bulkCall((stub) => openSession('Attach', stub.Attach(), attachStart(id, streams), streams, open, signal)),
    sftp: (id, signal) =>
      bulkCall((stub) => openSession('Sftp', stub.Sftp(), sftpStart(id), SFTP_STREAMS, open, signal)),
    portForward: (port, signal) => bulkCall((stub) => openPort(stub.PortForward(), port, open, signal)),
    [Symbol.dispose]: () => {
      gone = true;
      for (const call of [...open]) call.fail(vmGone());
      control.close();
      bulk.close();
    },
  };
}

const vmGone = (): CaissonError => new CaissonError('unavailable', 'the VM of the pod is gone');

/** `silenceMs`: for the answer to a ping */
function connect(socketPath: string, silenceMs: number): Stub {
  return new Agent(`unix:${socketPath}`, grpc.credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    // statistics that nobody reads
    'grpc.enable_channelz': 0,
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
    'grpc-node.flow_control_window': WINDOW_BYTES,
    'grpc.keepalive_time_ms': KEEPALIVE_MS,
    'grpc.keepalive_timeout_ms': silenceMs,
    'grpc.initial_reconnect_backoff_ms': 50,
    'grpc.min_reconnect_backoff_ms': 50,
    'grpc.max_reconnect_backoff_ms': 1000,
    'grpc.service_config': '{"loadBalancingConfig":[{"pick_first":{}}]}',
  });
}

type Callback<Response> = (error: grpc.ServiceError | null, response?: Response) => void;
type Invoke<Response> = (
  metadata: grpc.Metadata,
  options: grpc.CallOptions,
  callback: Callback<Response>,
) => grpc.ClientUnaryCall;

function answerOf<Response>(
  name: string,
  invoke: Invoke<Response>,
  open: OpenCalls,
  signal: AbortSignal | undefined,
  deadlineMs: number,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const metadata = new grpc.Metadata({ waitForReady: deadlineMs !== Infinity });
    const deadline = deadlineMs === Infinity ? Infinity : Date.now() + deadlineMs;
    const call = invoke(metadata, { deadline }, (error, response) => {
      signal?.removeEventListener('abort', cancel);
      open.delete(entry);
      if (error || response === undefined) reject(agentError(name, error));
      else resolve(response);
    });
    const cancel = (): void => call.cancel();
    const fail = (reason: CaissonError): void => {
      reject(reason);
      cancel();
    };
    const entry = { fail };
    open.add(entry);
    signal?.addEventListener('abort', cancel, { once: true });
    if (signal?.aborted) cancel();
  });
}

function sandboxMessage(settings: SandboxSettings) {
  const net = settings.interface;
  return {
    sandbox_id: settings.sandboxId,
    hostname: settings.hostname,
    time_ns: String(BigInt(Date.now()) * 1_000_000n),
    entropy: randomBytes(64),
    interface: net ? interfaceMessage(net) : null,
    resolv_conf: settings.resolvConf,
    hosts: settings.hosts,
    sysctls: { ...settings.sysctls },
    shm_size_bytes: String(settings.shmSizeBytes),
  };
}

function volumeMessage(volume: GuestVolume): Volume {
  const { source } = volume;
  if (volume.kind === 'own') return { source, own: volume.path };
  if (volume.kind === 'shared') return { source, shared: volume.number };
  if (volume.kind === 'mirrored') return { source, mirrored: { number: volume.number, data: volume.data } };
  if (volume.kind === 'memory') {
    const { key, pageBytes, sizeBytes, mode, uid, gid, subPath } = volume;
    const bytes = { page_bytes: String(pageBytes), size_bytes: String(sizeBytes) };
    return { source, memory: { key, ...bytes, mode, uid, gid, sub_path: subPath } };
  }
  return { source, image: { layer_serials: [...volume.layerSerials], sub_path: volume.subPath } };
}

function interfaceMessage(net: GuestInterface) {
  return {
    name: net.name,
    mac: net.mac,
    mtu: net.mtu,
    addresses: net.addresses.map(({ cidr }) => cidr),
    routes: net.routes.map(({ destination, gateway = '', mtu = 0 }) => ({ destination, gateway, mtu })),
    neighbours: [...net.neighbours],
  };
}
