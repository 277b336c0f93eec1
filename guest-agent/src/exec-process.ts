import { mkdirSync } from 'node:fs';
import { removeCgroup } from './cgroup.ts';
import type { Container } from './containers.ts';
import { launch, type StartedProcess } from './crun.ts';
import { mappedUser } from './id-mapping.ts';
import { containerPaths } from './paths.ts';
import { removeSmall, writeSmall } from './small-files.ts';

export interface ExecOptions {
  readonly command: readonly string[];
  readonly tty: boolean;
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** `NAME=value`, over the container's own */
  readonly env: readonly string[];
  readonly size: { readonly columns: number; readonly rows: number } | undefined;
}

export interface ExecProcess extends StartedProcess {
  /** of its own, so that all that the command starts can be killed */
  readonly cgroup: string;
}

let execCount = 0;

/** Starts a command in a running container; throws as `launch` does. `forgetExec` is to be called at its end. */
export async function startExec(container: Container, options: ExecOptions): Promise<ExecProcess> {
  const { tty, stdin, stdout, stderr } = options;
  const { home, cgroup: parent } = containerPaths(container.id);
  const name = `exec-${++execCount}`;
  const cgroup = `${parent}/${name}`;
  const processFile = `${home}/${name}.json`;
  mkdirSync(cgroup);
  writeSmall(processFile, JSON.stringify(processSpec(container, options)));
  try {
    const started = await launch(
      (extra) => ['exec', '--detach', '--process', processFile, '--cgroup', name, ...extra, container.id],
      { scratchPath: `${home}/${name}`, terminal: tty, stdin, stdout, stderr, owner: mappedUser(container.spec) },
    );
    return { ...started, cgroup };
  } catch (error) {
    forgetExec(container, cgroup);
    throw error;
  } finally {
    removeSmall(processFile);
  }
}

function processSpec({ spec }: Container, { command, tty, env, size }: ExecOptions): object {
  const own = new Set(env.map(variableName));
  const inherited = spec.process.env.filter((entry) => !own.has(variableName(entry)));
  const all = [...inherited, ...env];
  const term = tty && !all.some((entry) => variableName(entry) === 'TERM') ? ['TERM=xterm'] : [];
  return {
    ...spec.process,
    terminal: tty,
    args: command,
    env: [...all, ...term],
    ...(tty && size && { consoleSize: { width: size.columns, height: size.rows } }),
  };
}

const variableName = (entry: string): string => entry.split('=', 1)[0] ?? '';

/** Of commands that have left processes behind, some stay for the next exec to remove, or the container's removal. */
export function forgetExec({ execCgroups }: Container, cgroup: string): void {
  execCgroups.add(cgroup);
  for (const path of execCgroups) if (removeCgroup(path)) execCgroups.delete(path);
}
