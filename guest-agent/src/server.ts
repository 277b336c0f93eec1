import { adjustClock, nowNs } from './clock.ts';
import { existsSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { ProtoGrpcType } from '../../proto/generated/agent/agent.ts';
import type { AgentHandlers } from '../../proto/generated/agent/caisson/agent/v1/Agent.ts';
import type { ContainerInfo } from '../../proto/generated/agent/caisson/agent/v1/ContainerInfo.ts';
import type { AppArmorPolicy__Output } from '../../proto/generated/agent/caisson/agent/v1/AppArmorPolicy.ts';
import type { Exit } from '../../proto/generated/agent/caisson/agent/v1/Exit.ts';
import type { Volume__Output } from '../../proto/generated/agent/caisson/agent/v1/Volume.ts';
import { CaissonError } from '../../src/lib/errors.ts';
import type { AppArmorPolicy } from './apparmor.ts';
import { attach } from './attach.ts';
import * as containers from './containers.ts';
import { execStream } from './exec-stream.ts';
import { execSync } from './exec.ts';
import { withDataMessages } from './data-message.ts';
import { fail, unary, urgent } from './handlers.ts';
import type { OutputReader } from './output.ts';
import { portForward } from './port-forward.ts';
import { onlineProcessors } from './processors.ts';
import { configureSandbox, isConfigured, rehearseNetwork } from './sandbox.ts';
import { readStats } from './stats/index.ts';
import { readSmall } from './small-files.ts';
import { sftpSession } from './sftp-session.ts';
import { streaming, wrongStart } from './stream-call.ts';
import { syncVolume, type VolumeRequest } from './volumes.ts';

export const AGENT_VERSION = '0.1.0';
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
/**
 * A client that leaves resets its call. By itself Node ends a connection, with all calls of others on it, that brings over
 * 1000 of them, or 33 a second in the long run: as many as short connections through one forwarded port. The host may.
 */
const ANY_RESETS = { streamResetBurst: 1e9, streamResetRate: 1e9 };

/** The agent's gRPC server; connections are injected, it binds nothing. */
export function makeServer(): grpc.Server {
  const server = new grpc.Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
    // statistics that nobody reads
    'grpc.enable_channelz': 0,
  });
  // grpc-js has no option for it
  Object.assign(server['commonServerOptions'], ANY_RESETS);
  const { service } = loadContract().Agent;
  const streams = Object.entries(service).filter(([, method]) => method.requestStream && method.responseStream);
  const withData = Object.fromEntries(streams.map(([name, method]) => [name, withDataMessages(method)]));
  server.addService({ ...service, ...withData }, handlers);
  return server;
}

type Contract = ProtoGrpcType['caisson']['agent']['v1'];
let contract: Contract | undefined;

/**
 * The contract, from the file beside the agent. One for the server and for the warm-up, which is the server's client: what
 * this has made of it is there for the server, too.
 */
export function loadContract(): Contract {
  return (contract ??= readContract());
}

function readContract(): Contract {
  // beside the bundle in the image, in its own folder in a checkout
  const places = [
    join(import.meta.dirname, 'agent.proto'),
    join(import.meta.dirname, '../../proto/agent/v1/agent.proto'),
  ];
  const path = places.find((place) => existsSync(place)) ?? 'agent.proto';
  const definition = loadSync(path, { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true });
  const root = grpc.loadPackageDefinition(definition) as unknown as ProtoGrpcType;
  return root.caisson.agent.v1;
}

const handlers: AgentHandlers = {
  // async, as a failure is to be the call's
  GetInfo: unary(async () => ({
    agent_version: AGENT_VERSION,
    kernel_release: release(),
    boot_id: readSmall('/proc/sys/kernel/random/boot_id').trim(),
    time_ns: String(nowNs()),
    configured: isConfigured(),
    containers: [...containers.allContainers()].map(containerInfo),
  })),

  RehearseNetwork: unary(async (request) => {
    await rehearseNetwork(request.interface);
    return {};
  }),

  ConfigureSandbox: unary(async (request) => {
    await configureSandbox(request);
    return {};
  }),

  CreateContainer: unary(async (request) => {
    const { user } = request;
    const resolved = await containers.createContainer({
      id: request.id,
      layerSerials: request.layer_serials,
      ociSpec: request.oci_spec.toString('utf8'),
      user: {
        user: user?.user ?? '',
        gid: user?._gid === 'gid' ? user.gid : undefined,
        supplementalGroups: user?.supplemental_groups ?? [],
        strictGroups: user?.strict_groups ?? false,
      },
      stdin: request.stdin,
      volumes: request.volumes.map(volumeRequest),
      stdinOnce: request.stdin_once,
      blockDevices: request.block_devices,
      appArmor: appArmorPolicy(request.apparmor),
    });
    return { user: { uid: resolved.uid, gid: resolved.gid, supplemental_groups: [...resolved.supplementalGroups] } };
  }),

  StartContainer: (call) => {
    const { id } = call.request;
    const answer = async (): Promise<void> => {
      call.write({ pid: await containers.startContainer(id) });
      call.write({ exit: exitMessage(await containers.getContainer(id).exited) });
      call.end();
    };
    answer().catch((error: unknown) => call.emit('error', fail(error)));
  },

  SignalContainer: urgent(async ({ id, signal, all }) => ({
    ignored: await containers.signalContainer(id, signal, all),
  })),

  FreezeContainer: urgent(async ({ id, frozen }) => {
    await containers.freezeContainer(id, frozen);
    return {};
  }),

  WaitContainer: unary(async (request) => ({ exit: exitMessage(await containers.getContainer(request.id).exited) })),

  SyncVolume: unary(async ({ container_id, volume }) => {
    await syncVolume(container_id, volume?.number ?? 0, volume?.data ?? '');
    return {};
  }),

  RemoveContainer: urgent(async (request) => {
    await containers.removeContainer(request.id);
    return {};
  }),

  UpdateContainer: unary(async (request) => {
    await containers.updateContainer(request.id, request.oci_resources.toString('utf8'));
    return {};
  }),

  AdjustClock: unary(async (request) => ({ time_ns: String(adjustClock(request)) })),
  OnlineProcessors: unary(async (request) => {
    await onlineProcessors(request.count);
    return {};
  }),

  GetStats: unary(({ container_ids, details }) => readStats(container_ids, details)),

  ContainerOutput: (call) => {
    let detach = (): void => undefined;
    const reader: OutputReader = {
      chunk: ({ stream, data, endOffset, timeNs }) =>
        call.write({ stream, data, end_offset: endOffset, time_ns: String(timeNs) }),
      end: () => call.end(),
    };
    let output: containers.Container['output'] | undefined;
    call.on('data', (message) => {
      if (output) return output.acknowledge(Number(message.acknowledged));
      try {
        ({ output } = containers.getContainer(message.id));
        detach = () => output?.detach(reader);
        output.attach(reader);
      } catch (error) {
        call.emit('error', fail(error)); // destroy() would end the call without a status
      }
    });
    call.on('end', () => detach());
    call.on('cancelled', () => detach());
    call.on('error', () => detach());
  },

  ExecSync: (call) => {
    const abort = new AbortController();
    let ended = false;
    // comes with every end of a call
    call.on('cancelled', () => ended || abort.abort());
    const { container_id, command, timeout_ms } = call.request;
    const output = {
      write: (stream: 'stdout' | 'stderr', data: Buffer) => call.write({ [stream]: data }),
      drained: () => new Promise<void>((resolve) => call.once('drain', resolve)),
    };
    execSync(container_id, command, Number(timeout_ms), output, abort.signal).then(
      ({ code, timedOut }) => {
        ended = true;
        call.write({ exit: { code, timed_out: timedOut } });
        call.end();
      },
      (error: unknown) => call.emit('error', fail(error)),
    );
  },

  Exec: streaming(async ({ exec: start }, call) => {
    if (!start) throw wrongStart('Exec');
    await execStream(start, call);
  }),

  Attach: streaming(async ({ attach: start }, call) => {
    if (!start) throw wrongStart('Attach');
    await attach(start, call);
  }),

  Sftp: streaming(async ({ sftp: start }, call) => {
    if (!start) throw wrongStart('Sftp');
    await sftpSession(start, call);
  }),

  PortForward: streaming(async ({ port_forward: start }, call) => {
    if (!start) throw wrongStart('PortForward');
    await portForward(start.port, call);
  }),
};

function appArmorPolicy(policy: AppArmorPolicy__Output | null): AppArmorPolicy | undefined {
  const data = policy?.compiled ?? policy?.source;
  return data && { isCompiled: policy?.kind === 'compiled', data };
}

function volumeRequest({ source, kind, shared, image, memory, mirrored, own }: Volume__Output): VolumeRequest {
  if (kind === 'mirrored' && mirrored) return { source, kind, ...mirrored };
  if (kind === 'memory' && memory) {
    const { key, page_bytes: pageBytes, size_bytes: sizeBytes, mode, uid, gid, sub_path: subPath } = memory;
    return { source, kind, key, pageBytes, sizeBytes, mode, uid, gid, subPath };
  }
  if (kind === 'image' && image) return { source, kind, layerSerials: image.layer_serials, subPath: image.sub_path };
  if (kind === 'own' && own !== undefined) return { source, kind, path: own };
  if (kind === 'shared' && shared !== undefined) return { source, kind, number: shared };
  throw new CaissonError('unimplemented', 'this guest image is older than the daemon: it does not know such volumes', {
    hint: 'run bin/caisson image build',
  });
}

function containerInfo(container: containers.Container): ContainerInfo {
  return {
    id: container.id,
    started: container.pid !== undefined,
    exit: container.exit ? exitMessage(container.exit) : null,
  };
}

function exitMessage(exit: containers.ExitReport): Exit {
  return { code: exit.code, finished_at_ns: String(exit.finishedAtNs), oom_killed: exit.oomKilled };
}
