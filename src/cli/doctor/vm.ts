import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Config } from '../../config/schema.ts';
import { exists, ignoreMissing, readFileIfExists } from '../../lib/files.ts';
import { DENSE_HANDLER } from '../../pod/contracts.ts';
import { memoryOf } from '../../vm/memory.ts';
import { chooseTransport } from '../../vm/vsock/transport.ts';
import { templateHome } from '../../vm/template/keeper.ts';
import { probeMemory } from '../../vm/contracts.ts';
import { fail, findProgram, ok, programCheck, SETUP, versionText, warn } from './check.ts';
import type { Check, Finding } from './check.ts';

const QEMU_LEAST = '9.0';
const EROFS_LEAST = '1.7';
const GUEST_FILES = ['kernel', 'initramfs', 'root.erofs'];

export const vmChecks: readonly Check[] = [
  { name: 'qemu', why: 'every pod is a QEMU virtual machine', find: ({ vm }) => findProgram(vm.qemu, QEMU_LEAST) },
  { name: 'accelerator', why: 'with KVM pods run at full speed, with TCG several times slower', find: findAccelerator },
  { name: 'virtiofsd', why: 'pods see their volumes by it', find: findVirtiofsd },
  { name: 'vsock', why: 'the daemon reaches the agent in the VM through it', find: findVsock },
  { name: 'guest image', why: 'every VM boots its kernel and root', find: findGuestImage },
  { name: 'template', why: 'a pod that is its clone starts in a fraction of a boot', find: findTemplate },
  { name: 'clone memory', why: 'a pod without volumes can share the memory of the template', find: findMemory },
  programCheck('qemu-img', "makes the pods' writable disks"),
  programCheck('mkfs.erofs', 'turns image layers into read-only disks', EROFS_LEAST, ['-V']),
  programCheck('skopeo', 'pulls images'),
];

/** /dev/kvm can exist where no guest boots with it, so it proves nothing: only a guest that has booted does. */
async function findAccelerator({ vm }: Config): Promise<Finding> {
  if (vm.accelerator !== 'auto') return ok(`${vm.accelerator}, as configured`);
  const probed = await readFileIfExists(probeMemory(vm.guest_image)).catch(() => undefined);
  const { kind, reason } = parseProbe(probed);
  if (kind === 'kvm') return ok(`kvm: ${reason}`);
  if (kind === 'tcg')
    return warn(`tcg: ${reason}`, 'use a host with VT-x or AMD-V (or nested virtualisation) and load kvm');
  const device = (await exists('/dev/kvm'))
    ? '/dev/kvm is there, which proves nothing'
    : '/dev/kvm is missing: tcg, probably';
  return ok(`not probed yet; ${device}`);
}

/** What src/vm remembers of its last probe: `{ key, choice: { kind, reason } }`. */
const probeSchema = z.object({ choice: z.object({ kind: z.enum(['kvm', 'tcg']), reason: z.string() }) });

function parseProbe(text: string | undefined): { kind?: string; reason?: string } {
  try {
    return probeSchema.parse(JSON.parse(text ?? '')).choice;
  } catch {
    return {}; // missing, half written or from another version: as good as none
  }
}

async function findVsock({ vm }: Config): Promise<Finding> {
  const device = (await stat('/dev/vhost-vsock').catch(ignoreMissing(undefined)))?.isCharacterDevice() === true;
  if (device && vm.transport !== 'vhost-user-vsock') return ok('/dev/vhost-vsock');
  if (vm.transport === 'vhost-vsock') return fail('/dev/vhost-vsock is missing', 'modprobe vhost_vsock');
  if ((await versionText(vm.vhost_device_vsock)) !== undefined) return ok(vm.vhost_device_vsock);
  return fail(`neither /dev/vhost-vsock nor ${vm.vhost_device_vsock}`, `modprobe vhost_vsock || ${SETUP}`);
}

async function findVirtiofsd({ storage }: Config): Promise<Finding> {
  const version = await versionText(storage.virtiofsd);
  return version === undefined ? fail(`${storage.virtiofsd} is missing`, SETUP) : ok(version.trim());
}

async function findGuestImage({ vm }: Config): Promise<Finding> {
  const build = 'caisson image build';
  const text = await readFileIfExists(join(vm.guest_image, 'manifest.json'));
  if (text === undefined) return fail(`none in ${vm.guest_image}`, build);
  for (const name of GUEST_FILES) {
    const file = await stat(join(vm.guest_image, name)).catch(ignoreMissing(undefined));
    if (file === undefined || file.size === 0)
      return fail(`${join(vm.guest_image, name)} is missing`, `${build} --force`);
  }
  const kernel = kernelRelease(text);
  if (kernel === undefined) return fail(`${vm.guest_image}/manifest.json is damaged`, `${build} --force`);
  return ok(`${vm.guest_image} (Linux ${kernel})`);
}

async function findTemplate({ vm }: Config): Promise<Finding> {
  if (!vm.template) return ok('off, as configured: pods boot');
  const home = templateHome(vm.guest_image);
  const made = (await readdir(home).catch(ignoreMissing([]))).filter((name) => !name.includes('.new-'));
  if (made.length === 0) return warn('none yet: pods boot until the daemon has made it', 'caisson template build');
  return ok(`${home} (${vm.vcpus} vCPU, ${vm.memory_mib} MiB; other sizes boot)`);
}

/** Nothing to mend: it says what a pod costs here, and why. */
async function findMemory({ vm }: Config): Promise<Finding> {
  const transport = chooseTransport(vm.transport);
  const [usual, dense] = [memoryOf({}, transport), memoryOf({ dense: true }, transport)];
  if (usual.kind === dense.kind) return ok(`${usual.kind}: ${dense.reason}`);
  return ok(`${usual.kind}: ${usual.reason}; ${dense.kind} for handler ${DENSE_HANDLER}: ${dense.reason}`);
}

const manifestSchema = z.object({ kernelRelease: z.string() });

function kernelRelease(manifest: string): string | undefined {
  try {
    return manifestSchema.parse(JSON.parse(manifest)).kernelRelease;
  } catch {
    return undefined;
  }
}
