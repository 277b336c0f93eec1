import { readFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../config/schema.ts';
import { CaissonError } from '../lib/errors.ts';
import { connectCri, type CriConnection } from '../lib/grpc/cri-client.ts';
import { createLogger } from '../telemetry/index.ts';
import { startDaemon } from './daemon.ts';
import { note, print } from './output.ts';
import { loadBusybox, makePrivatePlace } from './private-place.ts';

const CHOICE_MS = 60_000;
const IMAGE = 'caisson.demo/busybox:latest';
const SCRIPT = 'echo "hello from $(hostname)"; uname -r; id; ip -4 -o address show eth0';

/**
 * Runs one pod with one container, from nothing, through the CRI as a kubelet would, in directories of its own. The
 * last line it prints is for scripts; nothing stays behind.
 */
export async function runDemo(base: Config): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new CaissonError('failed_precondition', 'the demo needs root', { hint: 'sudo npm run demo' });
  await using stack = new AsyncDisposableStack();
  const place = stack.use(await makePrivatePlace(base, 'demo'));
  const { config, directory } = place;
  await step("making a small image from this host's busybox and converting its layer", () => loadBusybox(place, IMAGE));
  stack.use(await step('starting the daemon', () => startDaemon(config, createLogger({ level: 'warn' }))));
  const cri = connectCri(config.socket);
  stack.defer(() => cri.close());
  const accelerator = await step('choosing the accelerator (the first time, by booting a guest with KVM)', () =>
    chosenAccelerator(cri),
  );
  print(`demo: ${await runPod(cri, directory, accelerator)}`);
}

interface Choice {
  readonly accelerator: string;
  readonly transport: string;
}

/** Status says it as soon as it is known; when it is not in time, the pod will say why. */
async function chosenAccelerator(cri: CriConnection): Promise<Choice> {
  const deadline = Date.now() + CHOICE_MS;
  for (;;) {
    const { info } = await cri.runtime.Status({ verbose: true });
    const known = JSON.parse(info['info'] ?? '{}') as { accelerator?: { kind?: string } | string; transport?: string };
    if (typeof known.accelerator === 'object') {
      return { accelerator: known.accelerator.kind ?? 'unknown', transport: known.transport ?? 'unknown' };
    }
    if (Date.now() > deadline) return { accelerator: 'unknown', transport: known.transport ?? 'unknown' };
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function runPod(cri: CriConnection, directory: string, choice: Choice): Promise<string> {
  const sandboxConfig = {
    metadata: { name: 'demo', namespace: 'default', uid: 'demo', attempt: 0 },
    hostname: 'demo',
    log_directory: join(directory, 'logs'),
    linux: {},
  };
  const started = performance.now();
  const { pod_sandbox_id } = await step('RunPodSandbox: a virtual machine boots', () =>
    cri.runtime.RunPodSandbox({ config: sandboxConfig }),
  );
  const podMs = performance.now() - started;
  try {
    const { status } = await cri.runtime.PodSandboxStatus({ pod_sandbox_id });
    note(`      pod ${pod_sandbox_id.slice(0, 13)} has ${status?.network?.ip}`);
    const containerMs = await runContainer(cri, pod_sandbox_id, sandboxConfig);
    const lines = await readLog(join(directory, 'logs/hello.log'));
    for (const line of lines) note(`      | ${line}`);
    const guestKernel = lines[1] ?? 'unknown';
    if (guestKernel === release()) throw new CaissonError('internal', "the container ran on the host's kernel");
    return [
      `ok pod=${Math.round(podMs)}ms container=${Math.round(containerMs)}ms`,
      `guest-kernel=${guestKernel} host-kernel=${release()}`,
      `accelerator=${choice.accelerator} transport=${choice.transport}`,
    ].join(' ');
  } finally {
    await step('StopPodSandbox, RemovePodSandbox', async () => {
      await cri.runtime.StopPodSandbox({ pod_sandbox_id });
      await cri.runtime.RemovePodSandbox({ pod_sandbox_id });
    });
  }
}

/** Returns `ms` from CreateContainer to the running process; waits for its end. */
async function runContainer(cri: CriConnection, pod_sandbox_id: string, sandbox_config: object): Promise<number> {
  const started = performance.now();
  const config = {
    metadata: { name: 'hello', attempt: 0 },
    image: { image: IMAGE },
    command: ['sh', '-c', SCRIPT],
    log_path: 'hello.log',
    linux: {},
  };
  const { container_id } = await step('CreateContainer, StartContainer', async () => {
    const created = await cri.runtime.CreateContainer({ pod_sandbox_id, config, sandbox_config });
    await cri.runtime.StartContainer(created);
    return created;
  });
  const ms = performance.now() - started;
  for (;;) {
    const { status } = await cri.runtime.ContainerStatus({ container_id });
    if (status?.state === 'CONTAINER_EXITED') {
      if (status.exit_code === 0) return ms;
      throw new CaissonError('internal', `the container ended with ${status.exit_code}: ${status.message}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The text of a CRI log: what is behind time, stream and tag. */
async function readLog(path: string): Promise<string[]> {
  const lines = (await readFile(path, 'utf8')).trimEnd().split('\n');
  return lines.map((line) => line.split(' ').slice(3).join(' '));
}

async function step<T>(what: string, task: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await task();
  note(`demo: ${what} … ${Math.round(performance.now() - started)} ms`);
  return result;
}
