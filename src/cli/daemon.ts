/** The composition root: the only place that knows every module. Opens bottom up; disposal goes the other way. */
import type { Config } from '../config/schema.ts';
import { connectAgent } from '../agent/index.ts';
import { serveCri, type RuntimeState } from '../cri/index.ts';
import { openImages } from '../image/index.ts';
import type { ImageRecord } from '../image/index.ts';
import type { Logger } from '../lib/logger.ts';
import { openNetwork } from '../network/index.ts';
import { DENSE_HANDLER, type PodService } from '../pod/contracts.ts';
import { openPods } from '../pod/index.ts';
import { openSsh } from '../ssh/index.ts';
import { openSettings, openStore } from '../state/index.ts';
import { openStorage } from '../storage/index.ts';
import { openVolumes } from '../storage/volumes/index.ts';
import { openStreaming } from '../streaming/index.ts';
import type { VmPort } from '../vm/contracts.ts';
import { openCgroups } from '../vm/cgroups.ts';
import { openVms } from '../vm/index.ts';
import { caissonVersion } from './context.ts';
import { converterUid, makeBases, placesOf, type SshPlaces } from './places.ts';

export interface Daemon extends AsyncDisposable {
  /** what the edges call, for who runs a daemon in its own process */
  readonly pods: PodService;
}

/** Serves until the returned handle is disposed. Pods keep running then, and the next daemon takes them over. */
export async function startDaemon(config: Config, log: Logger): Promise<Daemon> {
  const places = placesOf(config);
  await makeBases(config);
  await using stack = new AsyncDisposableStack();
  const store = stack.use(openStore(places.database));
  const images = stack.use(
    await openImages({
      root: places.images,
      config: config.image,
      store: store.collection<ImageRecord>('image'),
      log: log.child({ component: 'image' }),
      converterUid: converterUid(config),
    }),
  );
  const settings = openSettings(store);
  const network = stack.use(
    await openNetwork({
      config: config.network,
      stateDir: places.network,
      podCidr: () => settings.get('podCidr') ?? '',
      log: log.child({ component: 'network' }),
    }),
  );
  const storage = await openStorage({
    root: places.storage,
    config: config.storage,
    log: log.child({ component: 'storage' }),
  });
  const volumes = await openVolumes({ stateDir: config.state, config: config.storage });
  const vms = stack.use(
    await openVms({
      config: config.vm,
      stateDir: config.state,
      disks: storage,
      log: log.child({ component: 'vm' }),
    }),
  );
  const cgroups = await openCgroups(config.vm, log.child({ component: 'vm' }));
  const pods = stack.use(
    await openPods({
      config,
      cgroups,
      images,
      network,
      storage,
      volumes,
      vms,
      connectAgent,
      store,
      setPodCidr: (cidr) => settings.set('podCidr', cidr),
      log: log.child({ component: 'pod' }),
    }),
  );
  const streaming = stack.use(
    await openStreaming({ ...streamingOptions(config), streams: pods, log: log.child({ component: 'streaming' }) }),
  );
  stack.use(
    await serveCri({
      socketPath: config.socket,
      pods,
      images,
      streaming,
      network: () => network.status(),
      runtime: () => runtimeState(config, vms, pods),
      containerFs: () => storage.usage(),
      cgroupDriver: config.vm.cgroup_driver,
      features: { recursiveReadOnlyMounts: true, userNamespaces: true, supplementalGroupsPolicy: true },
      version: caissonVersion(),
      log: log.child({ component: 'cri' }),
    }),
  );
  if (config.ssh.enabled)
    stack.use(await openSsh({ ...sshOptions(config, places.ssh), pods, log: log.child({ component: 'ssh' }) }));
  const owned = stack.move();
  return { pods, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function streamingOptions({ streaming: { address, port, idle_timeout_s, tls_cert, tls_key } }: Config) {
  const tls = tls_cert === '' ? {} : { tls: { certFile: tls_cert, keyFile: tls_key } };
  return { address, port, idleTimeoutMs: idle_timeout_s * 1000, ...tls };
}

function sshOptions({ ssh }: Config, places: SshPlaces) {
  return {
    socketPath: places.socket,
    keyDirectory: places.keys,
    authorizedKeys: places.authorizedKeys,
    ...(ssh.port !== 0 && { tcp: { address: ssh.address, port: ssh.port } }),
    acceptEnv: ssh.accept_env,
    vmAccess: ssh.vm_access,
    limits: {
      connections: ssh.max_connections,
      channels: ssh.max_channels,
      channelsPerConnection: ssh.max_channels_per_connection,
      authTries: ssh.max_auth_tries,
      loginGraceMs: ssh.login_grace_s * 1000,
    },
  };
}

/** The runtime is ready even while a probe for the accelerator runs: pods wait for it. */
function runtimeState(config: Config, vms: VmPort, pods: PodService): RuntimeState {
  const accelerator = vms.accelerator();
  const info = {
    accelerator: accelerator ?? 'not chosen yet',
    transport: vms.transport,
    template: vms.template(),
    pool: pods.pool(),
    cloneMemory: { caisson: vms.memoryOf({}), [DENSE_HANDLER]: vms.memoryOf({ dense: true }) },
    config: config.vm,
  };
  const readiness = vms.readiness();
  if (readiness.ready) return { ready: true, reason: '', message: '', info };
  return { ready: false, reason: 'NoVirtualMachines', message: readiness.message, info };
}
