import { join } from 'node:path';
import type { UserSettings } from '../agent/contracts.ts';
import type { Image } from '../image/contracts.ts';
import { orAborted, together } from '../lib/async.ts';
import { CaissonError } from '../lib/errors.ts';
import { newId } from '../lib/ids.ts';
import { annotate, traced } from '../lib/trace.ts';
import type { PodContext } from './context.ts';
import { requireLive } from './live.ts';
import { attachLayers, holdImages, layerSerial } from './layers.ts';
import type { ContainerConfig, NamespaceOption, PodSandboxConfig } from './contracts.ts';
import { withCdiDevices } from './cdi/index.ts';
import { appArmorProfile } from './apparmor/index.ts';
import { planDevices } from './devices.ts';
import { planMounts } from './mounts.ts';
import { containerName } from './names.ts';
import { ociSpec, processArgs } from './oci-spec.ts';
import { nowNs, type ContainerRecord, type SandboxRecord } from './records.ts';
import { growSandbox, sizeOf } from './sizing.ts';
import { seccompProfile } from './seccomp/index.ts';
import { stopSignalNumber } from './signals.ts';
import { bindVolumes, followVolumes, releaseVolumes } from './volumes.ts';
import { checkSameUserNamespace, userNamespace } from './user-namespace.ts';
import { validateContainer, type ValidContainerConfig } from './validate.ts';

/** Prepares a container in the sandbox's VM; nothing runs yet. Returns its id; a failure leaves nothing behind. */
export async function createContainer(
  context: PodContext,
  sandboxId: string,
  config: ContainerConfig,
  sandboxConfig: PodSandboxConfig | null,
  signal: AbortSignal,
): Promise<string> {
  validateContainer(config);
  const sandbox = context.sandboxes.get(sandboxId);
  const live = requireLive(context, sandboxId);
  const image = requireImage(context, config);
  if (processArgs(config, image.config).length === 0) {
    throw new CaissonError(
      'invalid_argument',
      `config.command: neither it nor image ${config.image.image} names a command`,
    );
  }
  const id = newId();
  annotate({ containerId: id });
  const namespaces = config.linux?.security_context?.namespace_options;
  checkSameUserNamespace(userNamespace(sandbox.namespaceOptions), userNamespace(namespaces));
  checkTarget(context, sandboxId, namespaces);
  const seccomp = await seccompProfile(config);
  const appArmor = await appArmorProfile(config, context.config.apparmor);
  const effective = await withCdiDevices(config, context.config.cdi.spec_dirs);
  validateContainer(effective);
  await using plan = await planMounts(context, effective, image.config);
  const devices = await planDevices(context, effective);
  const spec = ociSpec({
    mounts: plan.mounts,
    seccomp,
    appArmor: appArmor?.name,
    devices: devices.characters,
    userNamespace: userNamespace(sandbox.namespaceOptions),
    containerId: id,
    config: effective,
    sandboxConfig: sandboxConfig ?? { hostname: '' },
    image: image.config,
  });
  const record = newRecord(sandboxId, sandbox, config, image);
  context.containers.insert(id, containerName(sandboxId, config), record);
  await using undo = new AsyncDisposableStack();
  undo.defer(() => context.containers.delete(id));
  const hold = undo.use(holdImages(context, [image, ...plan.images]));
  const layers = [image, ...plan.images].flatMap((one) => one.layers);
  const size = sizeOf(context, sandboxId, sandbox, { containerId: id, limits: record.resources });
  await together(
    signal,
    (either) => traced('vm: plug layer disks', () => attachLayers(live, layers, either)),
    (either) => growSandbox(context, sandboxId, size, either),
  );
  for (const { disk } of devices.blocks) await live.vm.attachDisk(disk, signal);
  undo.defer(() => releaseVolumes(context, sandboxId, id));
  await traced('volumes: bind', () => bindVolumes(context, sandboxId, live, id, plan.binds, signal));
  const settings = {
    id,
    layerSerials: image.layers.map(layerSerial),
    ociSpec: spec,
    volumes: plan.volumes,
    blockDevices: devices.blocks.map(({ disk: { serial }, path, permissions }) => ({ serial, path, permissions })),
    appArmor: appArmor?.policy,
    user: userSettings(effective, image),
    stdin: config.stdin,
    stdinOnce: config.stdin_once,
  };
  // of a VM that is gone or about to go nothing needs removing; of another, the daemon's next start removes it
  const notRemoved = (error: unknown): void =>
    context.log.warn({ err: error, containerId: id }, 'a container that was not finished could not be removed');
  // not to be broken off: only when the guest has finished can it remove what it has made
  const created = live.agent.createContainer(settings, new AbortController().signal);
  undo.defer(async () => {
    const made = await created.then(
      () => true,
      () => false,
    );
    if (made) await live.agent.removeContainer(id).catch(notRemoved);
  });
  const user = await orAborted(created, signal);
  if (plan.binds.length > 0) await followVolumes(context, sandboxId, live, id);
  requireLive(context, sandboxId); // it may have been stopped meanwhile, and its containers told so
  context.containers.update(id, { state: 'created', user });
  context.imageHolds.set(id, hold);
  undo.move();
  return id;
}

/** Whose processes it wants to see: one of the same pod that runs. */
function checkTarget({ containers }: PodContext, sandboxId: string, options: NamespaceOption | null | undefined): void {
  if (options?.pid !== 'TARGET') return;
  const field = 'config.linux.security_context.namespace_options.target_id';
  const id = options.target_id;
  const target = containers.has(id) ? containers.get(id) : undefined;
  if (target?.sandboxId !== sandboxId)
    throw new CaissonError('invalid_argument', `${field}: ${JSON.stringify(id)} is no container of this pod`);
  if (target.state !== 'running')
    throw new CaissonError('failed_precondition', `${field}: container ${id} is ${target.state}, not running`);
}

function requireImage(context: PodContext, config: ValidContainerConfig): Image {
  const name = config.image.image;
  const image = context.images.find(name);
  if (!image) throw new CaissonError('not_found', `config.image: image ${JSON.stringify(name)} has not been pulled`);
  return image;
}

function userSettings(config: ContainerConfig, image: Image): UserSettings {
  const security = config.linux?.security_context;
  const asked = security?.run_as_user ? security.run_as_user.value : security?.run_as_username;
  return {
    user: asked || image.config.user,
    gid: security?.run_as_group ? idNumber('run_as_group', security.run_as_group.value) : undefined,
    supplementalGroups: (security?.supplemental_groups ?? []).map((group) => idNumber('supplemental_groups', group)),
    strictGroups: security?.supplemental_groups_policy === 'Strict',
  };
}

function idNumber(field: string, text: string): number {
  const id = Number(text);
  if (Number.isInteger(id) && id >= 0 && id < 2 ** 31) return id;
  throw new CaissonError(
    'invalid_argument',
    `config.linux.security_context.${field}: ${text} is not an id between 0 and 2147483647`,
  );
}

function newRecord(
  sandboxId: string,
  sandbox: SandboxRecord,
  config: ValidContainerConfig,
  image: Image,
): ContainerRecord {
  const { name, attempt } = config.metadata;
  return {
    version: 1,
    sandboxId,
    state: 'creating',
    metadata: { name, attempt },
    createdAt: nowNs(),
    startedAt: '0',
    finishedAt: '0',
    exitCode: 0,
    reason: '',
    message: '',
    image: config.image.user_specified_image || config.image.image,
    imageId: image.id,
    labels: config.labels,
    annotations: config.annotations,
    mounts: config.mounts,
    logPath: sandbox.logDirectory !== '' && config.log_path !== '' ? join(sandbox.logDirectory, config.log_path) : '',
    resources: config.linux?.resources ?? null,
    user: { uid: 0, gid: 0, supplementalGroups: [] },
    tty: config.tty,
    stdin: config.stdin,
    stopSignal: config.stop_signal,
    stopSignalNumber: stopSignalNumber(config.stop_signal, image.config.stopSignal),
  };
}
