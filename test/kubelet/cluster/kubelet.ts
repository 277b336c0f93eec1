import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { findHierarchies, makeCgroup, removeCgroup } from '../../../src/lib/cgroup.ts';
import { run } from '../../../src/lib/exec.ts';
import { exists, removeTree } from '../../../src/lib/files.ts';
import { removePods, type TestDaemon } from '../../support/daemon.ts';
import { freePort } from '../../support/registry.ts';
import type { ControlPlane } from './control-plane.ts';
import { PROGRAMS, startProgram, type Program } from './programs.ts';

export const NODE = 'caisson-test';

/** The node's kubelet, which can be ended and started again. */
export interface Kubelet {
  readonly program: Program;
  readonly rootDir: string;
  readonly podLogsDir: string;
  readonly staticPodDir: string;
  /** `settings` are merged over its KubeletConfiguration, for this start alone */
  start(settings?: object): Promise<void>;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** What a kubelet sets on the machine, to be put back. */
const SYSCTLS = ['vm/overcommit_memory', 'vm/panic_on_oom', 'kernel/panic', 'kernel/panic_on_oops'];
/** Where it writes whatever its configuration says: device plugins' sockets, links to the newest logs. */
const DIRECTORIES = ['/var/lib/kubelet', '/var/log/containers'];

export async function startKubelet(
  lab: AsyncDisposableStack,
  directory: string,
  plane: ControlPlane,
  daemon: TestDaemon,
): Promise<Kubelet> {
  await keepSysctls(lab);
  await keepAbsent(lab);
  const nodeIp = await addNodeAddress(lab);
  const cgroupRoot = await makeCgroupRoot(lab, directory);
  const rootDir = join(directory, 'kubelet');
  const staticPodDir = join(directory, 'static');
  const podLogsDir = join(directory, 'pod-logs');
  for (const path of [rootDir, staticPodDir, podLogsDir]) await mkdir(path);
  lab.defer(() => unmountBelow(directory));
  const node = await plane.authority.sign('node', `/O=system:nodes/CN=system:node:${NODE}`);
  const kubeconfig = await plane.kubeconfig('node', node);
  const base = await configuration({ plane, daemon, nodeIp, cgroupRoot, staticPodDir, podLogsDir });
  const configFile = join(directory, 'kubelet.yaml');
  const options = {
    config: configFile,
    kubeconfig,
    'root-dir': rootDir,
    'cert-dir': join(directory, 'kubelet-pki'),
    'node-ip': nodeIp,
    'hostname-override': NODE,
    v: 3,
  };
  const args = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  let program: Program | undefined;
  const start = async (settings: object = {}): Promise<void> => {
    await writeFile(configFile, JSON.stringify({ ...base, ...settings })); // JSON is YAML
    program = await startProgram(join(PROGRAMS, 'kubelet'), args, join(directory, 'kubelet.log'));
  };
  // their VMs are in the kubelet's cgroups
  lab.defer(() => removePods(daemon.cri));
  await start();
  lab.defer(() => program?.stop());
  return {
    get program() {
      if (program === undefined) throw new Error('the kubelet was not started');
      return program;
    },
    rootDir,
    podLogsDir,
    staticPodDir,
    start,
    stop: async (signal) => program?.stop(signal),
  };
}

interface Place {
  readonly plane: ControlPlane;
  readonly daemon: TestDaemon;
  readonly nodeIp: string;
  readonly cgroupRoot: string;
  readonly staticPodDir: string;
  readonly podLogsDir: string;
}

async function configuration({ plane, daemon, nodeIp, cgroupRoot, ...dirs }: Place): Promise<object> {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    containerRuntimeEndpoint: `unix://${daemon.config.socket}`,
    staticPodPath: dirs.staticPodDir,
    podLogsDir: dirs.podLogsDir,
    // only the API server, by its certificate
    address: nodeIp,
    port: await freePort(),
    healthzPort: 0,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: false },
      x509: { clientCAFile: plane.authority.caFile },
    },
    authorization: { mode: 'AlwaysAllow' },
    // this machine's
    cgroupRoot,
    failSwapOn: false,
    failCgroupV1: false,
    makeIPTablesUtilChains: false,
    imageGCHighThresholdPercent: 100,
    evictionHard: Object.fromEntries(['memory', 'nodefs', 'imagefs'].map((signal) => [`${signal}.available`, '0%'])),
    // nobody else attaches volumes
    enableControllerAttachDetach: false,
    seccompDefault: true,
    // what would make a test wait for a minute
    syncFrequency: '5s',
    fileCheckFrequency: '2s',
    containerLogMaxSize: '64Ki',
    containerLogMonitorInterval: '3s',
    nodeStatusUpdateFrequency: '2s',
  };
}

/** A kubelet takes no loopback address for the node's, and other addresses of this machine are not ours. */
async function addNodeAddress(lab: AsyncDisposableStack): Promise<string> {
  const [a = 0, b = 0] = randomBytes(2);
  const address = `10.199.${a}.${b}`;
  await run('ip', ['address', 'add', `${address}/32`, 'dev', 'lo']);
  lab.defer(async () => void (await run('ip', ['address', 'del', `${address}/32`, 'dev', 'lo'])));
  return address;
}

async function makeCgroupRoot(lab: AsyncDisposableStack, directory: string): Promise<string> {
  const hierarchies = await cgroupHierarchies();
  const path = `/kubelet-${basename(directory)}`;
  lab.defer(() => removeCgroup(hierarchies, path));
  await makeCgroup(hierarchies, path);
  return path;
}

/** Also those that count nothing, which a kubelet uses. */
async function cgroupHierarchies() {
  const found = await findHierarchies();
  const others = ['cpuset', 'freezer', 'devices', 'systemd', 'unified'].map((name) => `/sys/fs/cgroup/${name}`);
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').map((line) => line.split(' ')[4]);
  const more = others.filter((root) => mounts.includes(root));
  return [...found, ...more.map((root) => ({ root, version: 1 as const, controllers: [] }))];
}

async function keepSysctls(lab: AsyncDisposableStack): Promise<void> {
  for (const name of SYSCTLS) {
    const path = `/proc/sys/${name}`;
    const before = await readFile(path, 'utf8');
    lab.defer(() => writeFile(path, before));
  }
}

async function keepAbsent(lab: AsyncDisposableStack): Promise<void> {
  for (const path of DIRECTORIES) if (!(await exists(path))) lab.defer(() => removeTree(path));
}

/** What a kubelet that is ended leaves mounted: tmpfs for Secrets and tokens. */
async function unmountBelow(directory: string): Promise<void> {
  const { stdout } = await run('findmnt', ['--raw', '--noheadings', '--output', 'TARGET']);
  const below = stdout.split('\n').filter((target) => target.startsWith(`${directory}/`));
  for (const target of below.toReversed()) await run('umount', ['--lazy', target]);
}
