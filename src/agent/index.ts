import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { ProtoGrpcType } from '../../proto/generated/agent/agent.ts';
import type { Exit__Output } from '../../proto/generated/agent/caisson/agent/v1/Exit.ts';
import { CaissonError } from '../lib/errors.ts';
import type { AgentClient, AgentExit, SandboxSettings } from './contracts.ts';
import { readOutput, runExec } from './streams.ts';
import { agentError } from './status.ts';

const PROTO = resolve(import.meta.dirname, '../../proto/agent/v1/agent.proto');
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
const WINDOW_BYTES = 1024 * 1024;

// Generous: under TCG, with all cores busy, a create takes seconds.
const CONTROL_DEADLINE_MS = 60_000;

const definition = loadSync(PROTO, { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true });
const { Agent } = (grpc.loadPackageDefinition(definition) as unknown as ProtoGrpcType).caisson.agent.v1;
type Stub = InstanceType<typeof Agent>;

/** A client over the VM's agent socket. Bulk streams have a connection of their own, so they never delay a kill. */
export function connectAgent(socketPath: string): AgentClient {
  const control = stub(socketPath);
  const bulk = stub(socketPath);
  return {
    info: async (signal) => {
      const info = await unary('GetInfo', control.GetInfo.bind(control), {}, signal);
      return {
        agentVersion: info.agent_version,
        kernelRelease: info.kernel_release,
        bootId: info.boot_id,
        configured: info.configured,
        containers: info.containers.map(({ id, started, exit }) => ({ id, started, exit: exit && agentExit(exit) })),
      };
    },
    configureSandbox: async (settings, signal) => {
      await unary('ConfigureSandbox', control.ConfigureSandbox.bind(control), sandboxMessage(settings), signal);
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
      };
      const { user: resolved } = await unary('CreateContainer', control.CreateContainer.bind(control), request, signal);
      return {
        uid: resolved?.uid ?? 0,
        gid: resolved?.gid ?? 0,
        supplementalGroups: resolved?.supplemental_groups ?? [],
      };
    },
    startContainer: async (id, signal) => {
      await unary('StartContainer', control.StartContainer.bind(control), { id }, signal);
    },
    signalContainer: async (id, signal, all) => {
      const { ignored } = await unary('SignalContainer', control.SignalContainer.bind(control), { id, signal, all });
      return { ignored };
    },
    waitContainer: async (id) => {
      const { exit } = await unary('WaitContainer', control.WaitContainer.bind(control), { id }, undefined, Infinity);
      if (!exit) throw new CaissonError('internal', 'the guest agent reported no exit');
      return agentExit(exit);
    },
    removeContainer: async (id) => {
      await unary('RemoveContainer', control.RemoveContainer.bind(control), { id });
    },
    output: (id, store) => readOutput(bulk, id, store),
    execSync: (id, command, timeoutMs, maxBytes, signal) => runExec(bulk, { id, command, timeoutMs, maxBytes }, signal),
    [Symbol.dispose]: () => {
      control.close();
      bulk.close();
    },
  };
}

function stub(socketPath: string): Stub {
  return new Agent(`unix:${socketPath}`, grpc.credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
    'grpc-node.flow_control_window': WINDOW_BYTES,
    'grpc.initial_reconnect_backoff_ms': 50,
    'grpc.min_reconnect_backoff_ms': 50,
    'grpc.max_reconnect_backoff_ms': 1000,
    'grpc.service_config': '{"loadBalancingConfig":[{"pick_first":{}}]}',
  });
}

type Unary<Request, Response> = (
  request: Request,
  metadata: grpc.Metadata,
  options: grpc.CallOptions,
  callback: (error: grpc.ServiceError | null, response?: Response) => void,
) => grpc.ClientUnaryCall;

/** One call with a deadline; waits for the connection to come up until then. */
function unary<Request, Response>(
  name: string,
  method: Unary<Request, Response>,
  request: Request,
  signal?: AbortSignal,
  deadlineMs = CONTROL_DEADLINE_MS,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const metadata = new grpc.Metadata({ waitForReady: deadlineMs !== Infinity });
    const deadline = deadlineMs === Infinity ? Infinity : Date.now() + deadlineMs;
    const call = method(request, metadata, { deadline }, (error, response) => {
      signal?.removeEventListener('abort', cancel);
      if (error || response === undefined) reject(agentError(name, error));
      else resolve(response);
    });
    const cancel = (): void => call.cancel();
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
    interface: net && {
      name: net.name,
      mac: net.mac,
      mtu: net.mtu,
      addresses: net.addresses.map(({ cidr }) => cidr),
      routes: net.routes.map(({ destination, gateway = '', mtu = 0 }) => ({ destination, gateway, mtu })),
      neighbours: [...net.neighbours],
    },
    resolv_conf: settings.resolvConf,
    hosts: settings.hosts,
    sysctls: { ...settings.sysctls },
    scratch_serial: settings.scratchSerial,
    shm_size_bytes: String(settings.shmSizeBytes),
  };
}

function agentExit(exit: Exit__Output): AgentExit {
  return { code: exit.code, finishedAtNs: exit.finished_at_ns, oomKilled: exit.oom_killed };
}
