import { newId } from '../lib/ids.ts';
import { traced } from '../lib/trace.ts';
import type { GuestInterface } from '../network/contracts.ts';
import { RUNTIME_DEFAULT } from './apparmor/index.ts';
import { ociSpec } from './oci-spec.ts';
import type { PreparedVm } from './shell.ts';

const SIGKILL = 9;
const EXEC_TIMEOUT_MS = 60_000;
const EXEC_OUTPUT_BYTES = 4096;
/** what is optimised only when it is met again is met again */
const EXECS = 4;

/** Addresses that are nobody's: RFC 5737. */
const INTERFACE: GuestInterface = {
  name: 'eth0',
  mac: '02:00:00:00:00:01',
  mtu: 1500,
  addresses: [{ cidr: '192.0.2.2/24', gateway: '192.0.2.1' }],
  routes: [{ destination: '0.0.0.0/0', gateway: '192.0.2.1' }],
  neighbours: [{ ip: '192.0.2.1', mac: '02:00:00:00:00:02' }],
};

/**
 * Has a waiting VM do what its pod will have it do first: take a network, run a container and a command in it. Its first
 * pod then meets code that has been read, compiled and, under TCG, translated. Nothing of it is left in the VM but the
 * layer's disk: disks stay for the life of a VM.
 */
export async function rehearse({ agent, vm }: PreparedVm, guestImage: string, signal: AbortSignal): Promise<void> {
  await traced('rehearse: network', () => agent.rehearseNetwork(INTERFACE, signal));
  const id = newId();
  const spec = ociSpec({
    containerId: id,
    config: { linux: null, tty: false, working_dir: '', command: ['/bin/busybox', 'sleep', '60'], args: [], envs: [] },
    sandboxConfig: { hostname: '' },
    image: { user: '', env: [], entrypoint: [], cmd: [], workingDir: '', volumes: [], stopSignal: '', labels: {} },
    mounts: [],
    devices: [],
    appArmor: RUNTIME_DEFAULT,
  });
  const user = { user: '', gid: undefined, supplementalGroups: [], strictGroups: false };
  // the VM's own root once more, as a layer is plugged in and mounted
  const layer = { serial: 'rehearsal', path: `${guestImage}/root.erofs`, format: 'raw', readOnly: true } as const;
  await vm.attachDisk(layer, signal);
  await agent.createContainer(
    {
      id,
      layerSerials: [layer.serial],
      ociSpec: spec,
      volumes: [],
      blockDevices: [],
      user,
      stdin: false,
      stdinOnce: false,
    },
    signal,
  );
  try {
    const { exited } = await agent.startContainer(id, signal);
    const output = agent.output(id, async ({ endOffset }) => endOffset);
    output.catch(() => undefined); // what fails first is told: a VM that dies fails both
    for (let i = 0; i < EXECS; i++)
      await agent.execSync(id, ['/bin/busybox', 'true'], EXEC_TIMEOUT_MS, EXEC_OUTPUT_BYTES, signal);
    await agent.stats(false, signal);
    await agent.signalContainer(id, SIGKILL, true);
    await Promise.all([exited, output]);
  } finally {
    await agent.removeContainer(id);
  }
}
