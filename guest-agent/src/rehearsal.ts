import { once } from 'node:events';
import { promisify } from 'node:util';
import type { AgentClient } from '../../proto/generated/agent/caisson/agent/v1/Agent.ts';
import type { Interface } from '../../proto/generated/agent/caisson/agent/v1/Interface.ts';
import { runCommand } from './command.ts';
import { findDisk } from './disks.ts';

const ID = 'caa1550000000000';
const EXECS = 2;
const SIGKILL = 9;

/** Addresses that are nobody's: RFC 5737. */
const INTERFACE: Interface = {
  name: 'eth0',
  mac: '02:00:00:00:00:01',
  mtu: 1500,
  addresses: ['192.0.2.2/24'],
  routes: [{ destination: 'default', gateway: '192.0.2.1' }],
  neighbours: [{ ip: '192.0.2.1', mac: '02:00:00:00:00:02' }],
};

/** Of a container that sleeps, from the VM's own root. */
const SPEC = {
  ociVersion: '1.1.0',
  root: { path: 'rootfs' },
  process: {
    args: ['/usr/bin/busybox', 'sleep', '60'],
    cwd: '/',
    env: ['PATH=/usr/bin'],
    capabilities: { bounding: [], effective: [], permitted: [] },
    apparmorProfile: 'caisson-default',
  },
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc' },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755'] },
    { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['newinstance', 'ptmxmode=0666'] },
    { destination: '/dev/shm', type: 'bind', source: 'caisson:shm', options: ['rbind'] },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['ro'] },
    { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro'] },
    { destination: '/etc/hosts', type: 'bind', source: 'caisson:hosts', options: ['rbind'] },
  ],
  linux: {
    cgroupsPath: `/caisson/${ID}`,
    namespaces: [{ type: 'pid' }, { type: 'mount' }, { type: 'cgroup' }],
    resources: { memory: { limit: 64 << 20 } },
    maskedPaths: ['/proc/kcore', '/sys/firmware'],
    readonlyPaths: ['/proc/sys'],
  },
};

/**
 * Does in the VM that becomes the template what each pod will ask of its agent: what that reads from the disk and sets up
 * once is then there in all clones. Nothing else of it is left.
 */
export async function rehearse(stub: AgentClient): Promise<void> {
  const ask = {
    configure: promisify(stub.ConfigureSandbox.bind(stub)),
    network: promisify(stub.RehearseNetwork.bind(stub)),
    create: promisify(stub.CreateContainer.bind(stub)),
    stats: promisify(stub.GetStats.bind(stub)),
    signal: promisify(stub.SignalContainer.bind(stub)),
    remove: promisify(stub.RemoveContainer.bind(stub)),
  };
  // refused, as it is nobody's
  await ask.configure({ interface: INTERFACE }).catch(() => undefined);
  await findDisk('none', 1).catch(() => undefined);
  await ask.network({ interface: INTERFACE });
  await ask.create({ id: ID, oci_spec: Buffer.from(JSON.stringify(SPEC)) });
  const running = stub.StartContainer({ id: ID });
  const ended = once(running, 'end');
  ended.catch(() => undefined); // told by the first answer, too
  await once(running, 'data');
  const output = stub.ContainerOutput().on('data', () => undefined);
  output.write({ id: ID });
  for (let i = 0; i < EXECS; i++) await execTrue(stub);
  await ask.stats({});
  await ask.signal({ id: ID, signal: SIGKILL, all: true });
  await ended;
  output.end();
  await ask.remove({ id: ID });
  // or every clone would write it to a disk of its own
  await runCommand('/usr/bin/busybox', ['sync']);
}

function execTrue(stub: AgentClient): Promise<void> {
  const call = stub.ExecSync({ container_id: ID, command: ['/usr/bin/busybox', 'true'], timeout_ms: '60000' });
  return new Promise((resolve, reject) => {
    call.on('data', () => undefined);
    call.once('error', reject).once('end', resolve);
  });
}
