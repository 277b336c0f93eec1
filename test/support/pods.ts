import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ContainerConfig } from '../../proto/generated/runtime/runtime/v1/ContainerConfig.ts';
import type { ContainerStatus__Output } from '../../proto/generated/runtime/runtime/v1/ContainerStatus.ts';
import type { PodSandboxConfig } from '../../proto/generated/runtime/runtime/v1/PodSandboxConfig.ts';
import { ignoreMissing } from '../../src/lib/files.ts';
import type { TestDaemon } from './daemon.ts';

/** A daemon as far as pods are concerned. */
export type PodsDaemon = Pick<TestDaemon, 'cri' | 'dir'>;

export const BUSYBOX = 'caisson.test/busybox:latest';

/** A pod's config that is enough; its containers' logs are below the daemon's directory. */
export function sandboxConfig(
  { dir }: Pick<PodsDaemon, 'dir'>,
  name: string,
  overrides: PodSandboxConfig = {},
): PodSandboxConfig {
  return {
    metadata: { name, namespace: 'default', uid: `uid-${name}`, attempt: 0 },
    hostname: name,
    log_directory: join(dir, 'logs', name),
    linux: {},
    ...overrides,
  };
}

/** A pod that runs, with what its containers need to be made. */
export interface TestPod {
  readonly id: string;
  readonly config: PodSandboxConfig;
  readonly daemon: PodsDaemon;
}

export async function runPod(
  daemon: PodsDaemon,
  name: string,
  overrides: PodSandboxConfig = {},
  runtime_handler = '',
): Promise<TestPod> {
  const config = sandboxConfig(daemon, name, overrides);
  const { pod_sandbox_id: id } = await daemon.cri.runtime.RunPodSandbox({ config, runtime_handler });
  return { id, config, daemon };
}

/** A container of busybox that logs to `<name>.log`; returns its id. */
export async function create(
  pod: TestPod,
  name: string,
  command: readonly string[],
  overrides: ContainerConfig = {},
): Promise<string> {
  const config = {
    metadata: { name, attempt: 0 },
    image: { image: BUSYBOX },
    command: [...command],
    log_path: `${name}.log`,
    linux: {},
    ...overrides,
  };
  const request = { pod_sandbox_id: pod.id, sandbox_config: pod.config, config };
  return (await pod.daemon.cri.runtime.CreateContainer(request)).container_id;
}

export async function createAndStart(
  pod: TestPod,
  name: string,
  command: readonly string[],
  overrides: ContainerConfig = {},
): Promise<string> {
  const id = await create(pod, name, command, overrides);
  await pod.daemon.cri.runtime.StartContainer({ container_id: id });
  return id;
}

export async function containerStatus({ cri }: PodsDaemon, id: string): Promise<ContainerStatus__Output> {
  const { status } = await cri.runtime.ContainerStatus({ container_id: id });
  if (!status) throw new Error(`ContainerStatus of ${id} answered without a status`);
  return status;
}

/** Polls ContainerStatus until it is in `state`; throws when it is not after `withinMs`. */
export async function waitForState(
  daemon: PodsDaemon,
  id: string,
  state: 'CONTAINER_CREATED' | 'CONTAINER_RUNNING' | 'CONTAINER_EXITED' | 'CONTAINER_UNKNOWN',
  withinMs = 15_000,
): Promise<ContainerStatus__Output> {
  for (const deadline = Date.now() + withinMs; ; await sleep(50)) {
    const status = await containerStatus(daemon, id);
    if (status.state === state) return status;
    if (Date.now() > deadline)
      throw new Error(`container ${id} is ${status.state}, not ${state}, after ${withinMs} ms`);
  }
}

export interface ExecAnswer {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

export async function exec(
  { cri }: PodsDaemon,
  containerId: string,
  cmd: readonly string[],
  timeoutS = 20,
): Promise<ExecAnswer> {
  const answer = await cri.runtime.ExecSync({ container_id: containerId, cmd: [...cmd], timeout: String(timeoutS) });
  return { stdout: answer.stdout.toString(), stderr: answer.stderr.toString(), exitCode: answer.exit_code };
}

export const sh = (daemon: PodsDaemon, containerId: string, script: string, timeoutS?: number): Promise<ExecAnswer> =>
  exec(daemon, containerId, ['sh', '-c', script], timeoutS);

export interface LogLine {
  readonly time: string;
  readonly stream: 'stdout' | 'stderr';
  readonly tag: 'P' | 'F';
  readonly text: string;
}

/** The lines of a CRI log; throws when one is not in the format. Without a file there are none. */
export async function readLog({ config, daemon }: TestPod, file: string): Promise<LogLine[]> {
  const path = join(config.log_directory ?? daemon.dir, file);
  const lines = (await readFile(path, 'utf8').catch(ignoreMissing(''))).split('\n');
  if (lines.pop() !== '') throw new Error(`${path} does not end in a newline`);
  return lines.map((line) => {
    const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([PF]) (.*)$/s.exec(line);
    if (!match) throw new Error(`${path}: not a line of a CRI log: ${line.slice(0, 200)}`);
    const [, time = '', stream, tag, text = ''] = match;
    return { time, stream: stream as LogLine['stream'], tag: tag as LogLine['tag'], text };
  });
}

/** The text of one stream, its parts joined. */
export function textOf(lines: readonly LogLine[], stream: LogLine['stream'] = 'stdout'): string {
  return lines
    .filter((line) => line.stream === stream)
    .map(({ text, tag }) => (tag === 'F' ? `${text}\n` : text))
    .join('');
}
