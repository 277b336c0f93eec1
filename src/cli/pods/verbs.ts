/** What CRI lacks: start a stopped pod again, let pods and containers stand still. */
import type { Command } from 'commander';
import { configOf } from '../context.ts';
import { connectDaemon, type DaemonConnection } from '../cri-client.ts';
import { note } from '../output.ts';
import { containerName, findContainer, findPod, podName, takeInventory, type Inventory } from './target.ts';

export async function startPod(target: string, command: Command): Promise<void> {
  await withInventory(command, async (daemon, inventory) => {
    const pod = findPod(inventory, target);
    await daemon.extensions.StartPodSandbox({ pod_sandbox_id: pod.id });
    const { status } = await daemon.runtime.PodSandboxStatus({ pod_sandbox_id: pod.id });
    note(`${podName(pod)} runs, with ${status?.network?.ip ?? 'no address'}`);
  });
}

export async function resumePod(target: string, command: Command): Promise<void> {
  await withInventory(command, async (daemon, inventory) => {
    await daemon.extensions.ResumePod({ pod_sandbox_id: findPod(inventory, target).id });
  });
}

/** A container, or with `--pod` the whole VM. */
export async function pause(target: string, command: Command): Promise<void> {
  const { pod: wholePod = false } = command.opts<{ pod?: true }>();
  await withInventory(command, async (daemon, inventory) => {
    if (wholePod) {
      const pod = findPod(inventory, target);
      await daemon.extensions.PausePod({ pod_sandbox_id: pod.id });
      note(`${podName(pod)} stands still; caisson resume lets it go on`);
    } else {
      const { pod, container } = findContainer(inventory, target);
      await daemon.extensions.PauseContainer({ container_id: container.id });
      note(`${containerName(pod, container)} stands still; caisson unpause lets it go on`);
    }
  });
}

export async function unpause(target: string, command: Command): Promise<void> {
  await withInventory(command, async (daemon, inventory) => {
    await daemon.extensions.UnpauseContainer({ container_id: findContainer(inventory, target).container.id });
  });
}

async function withInventory(
  command: Command,
  work: (daemon: DaemonConnection, inventory: Inventory) => Promise<void>,
): Promise<void> {
  using daemon = await connectDaemon((await configOf(command)).socket);
  await work(daemon, await takeInventory(daemon, command.opts<{ namespace?: string }>().namespace));
}
