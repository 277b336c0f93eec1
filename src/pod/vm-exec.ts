import type { AgentClient } from '../agent/contracts.ts';
import { orAborted } from '../lib/async.ts';
import { newId } from '../lib/ids.ts';
import { requireLive } from './live.ts';
import type { PodContext } from './context.ts';
import type { ExecStreamRequest, ProcessSession } from './contracts.ts';
import { validateExec } from './exec-stream.ts';
import { capabilitySets } from './oci-capabilities.ts';
import { ociResources } from './oci-resources.ts';
import { ociSpec } from './oci-spec.ts';

const BUSYBOX = '/usr/bin/busybox';
/** Into the mount namespace of the VM's first process; all else that a container has of its own, this one has not. */
const IN_VM = [BUSYBOX, 'nsenter', '-m/proc/1/ns/mnt', '--'];
const goesOn = new AbortController().signal;

/** a daemon that was killed in between removes the container at its next start */
const KEEPER = [BUSYBOX, 'sleep', '2147483'];

/**
 * Runs a command as root of the sandbox's VM, beside the agent, which starts commands in containers only: so there is
 * one, of the VM's own root and with all rights, for as long as the command runs.
 */
export async function vmExec(
  context: PodContext,
  sandboxId: string,
  request: ExecStreamRequest,
  signal: AbortSignal,
): Promise<ProcessSession> {
  const { command, tty, stdin, stdout, stderr, env = {}, size } = request;
  validateExec(request);
  const { agent } = requireLive(context, sandboxId);
  const id = newId();
  await using undo = new AsyncDisposableStack();
  const kept = startKeeper(agent, id);
  undo.defer(async () => {
    await kept.catch(() => undefined);
    await remove(context, agent, id);
  });
  await orAborted(kept, signal);
  const settings = { containerId: id, command: [...IN_VM, ...command], tty, stdin, stdout, stderr, env, size };
  const session = await agent.exec(settings, signal);
  const owned = undo.move();
  return {
    ...session,
    [Symbol.asyncDispose]: async () => {
      await session[Symbol.asyncDispose]();
      await owned.disposeAsync();
    },
  };
}

/** Not to be broken off: only when the guest has finished can it remove what it has made. */
async function startKeeper(agent: AgentClient, id: string): Promise<void> {
  const none = { layerSerials: [], volumes: [], blockDevices: [], stdin: false, stdinOnce: false };
  await agent.createContainer({ id, ociSpec: spec(id), user: ROOT, ...none }, goesOn);
  await agent.startContainer(id, goesOn);
}

const ROOT = { user: '', gid: undefined, supplementalGroups: [], strictGroups: false };

function spec(containerId: string): object {
  const base = ociSpec({
    containerId,
    config: { linux: null, tty: false, working_dir: '', command: KEEPER, args: [], envs: [] },
    sandboxConfig: { hostname: '' },
    image: { user: '', env: [], entrypoint: [], cmd: [], workingDir: '', volumes: [], stopSignal: '', labels: {} },
    mounts: [],
    devices: [],
  }) as { readonly process: object; readonly linux: object };
  return {
    ...base,
    process: { ...base.process, capabilities: capabilitySets(null, true) },
    linux: {
      ...base.linux,
      // the VM's processes, so that the first of them can be followed
      namespaces: [{ type: 'mount' }, { type: 'cgroup' }],
      resources: ociResources(null, true, []),
      maskedPaths: [],
      readonlyPaths: [],
    },
  };
}

async function remove({ log }: PodContext, agent: AgentClient, id: string): Promise<void> {
  try {
    await agent.removeContainer(id);
  } catch (err) {
    log.debug({ err, containerId: id }, 'the VM is gone, and with it what a command in it ran in');
  }
}
