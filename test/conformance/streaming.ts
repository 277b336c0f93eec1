/**
 * Drives a real daemon's streams with client-go (which is what kubectl and the kubelet use), crictl, and OpenSSH's
 * clients: `npm run test:streaming`, or `bin/node test/conformance/streaming.ts [kubernetes] [ssh]` after
 * `bin/setup streaming`. Ends with `N passed, N failed`.
 */
import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import { exists } from '../../src/lib/files.ts';
import type { TestDaemon } from '../support/daemon.ts';
import { countFds, netnsOf, processesOf } from '../support/resources.ts';
import { Steps } from '../support/steps.ts';
import { Crictl, CRICTL } from './crictl/run.ts';
import { attach } from './streaming/attach.ts';
import { execByClientGo, execByCrictl, olderProtocols, refusals } from './streaming/exec.ts';
import { nothingIsHeld, vmDies } from './streaming/faults.ts';
import { portForward } from './streaming/forward.ts';
import { setUpSsh, sshSessions, sshFiles, sshPorts, sshRefusals } from './streaming/ssh.ts';
import { startPod, STREAMS, TRANSPORTS, type World } from './streaming/world.ts';

const LOG_TAIL_LINES = 15;
const parts = process.argv.slice(2);
const wants = (part: 'kubernetes' | 'ssh'): boolean => parts.length === 0 || parts.includes(part);

const interrupted = new AbortController();
// for good: what starts programs (execa) ends this process at a signal that nobody listens to
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupted.abort());
// whoever reads our output may leave: what was started must not stay behind
process.stdout.on('error', () => interrupted.abort());
process.exitCode = await main();

async function main(): Promise<number> {
  for (const program of wants('kubernetes') ? [CRICTL, STREAMS] : [CRICTL]) {
    if (await exists(program)) continue;
    process.stderr.write(`${program} is missing; run bin/setup streaming, or npm run test:streaming\n`);
    return 1;
  }
  const startedMs = performance.now();
  let explain = async (): Promise<string> => '';
  const steps = new Steps({ signal: interrupted.signal, explain: () => explain() });
  let daemon: TestDaemon | undefined;
  {
    await using lab = new AsyncDisposableStack();
    await steps.section('start', async () => {
      const started = await steps.need('bin/caisson serve, and a pod', () => startPod(lab));
      daemon = started.daemon;
      explain = async () => {
        const lines = (await started.daemon.log()).split('\n').filter((line) => line !== '');
        return `last lines of the daemon's log:\n${lines.slice(-LOG_TAIL_LINES).join('\n')}`;
      };
      const crictl = await Crictl.configure(started.daemon.dir, started.daemon.config.socket, interrupted.signal);
      await story({ ...started, steps, crictl });
    });
  }
  explain = async () => '';
  if (daemon) await nothingIsLeft(steps, daemon);
  if (interrupted.signal.aborted) process.stdout.write('interrupted\n');
  process.stdout.write(`took ${Math.round((performance.now() - startedMs) / 1000)} s\n${steps.summary()}\n`);
  return steps.failed > 0 || interrupted.signal.aborted ? 1 : 0;
}

async function story(world: World): Promise<void> {
  const { steps, daemon } = world;
  const ssh = wants('ssh') ? await setUpSsh(world) : undefined;
  const fds = await countFds(daemon);
  if (wants('kubernetes')) await kubernetes(world);
  if (ssh) {
    await steps.section('ssh: commands and terminals', () => sshSessions(ssh));
    await steps.section('ssh: files', () => sshFiles(ssh));
    await steps.section('ssh: ports', () => sshPorts(ssh));
    await steps.section('ssh: who is let in, and who is not', () => sshRefusals(ssh));
  }
  await steps.section('after all of that', () => nothingIsHeld(world, fds));
  await steps.section('faults', () => vmDies(world, { kubernetes: wants('kubernetes'), ssh }));
}

async function kubernetes(world: World): Promise<void> {
  const { steps } = world;
  await steps.section('what is refused before there is a stream', () => refusals(world));
  for (const transport of TRANSPORTS) {
    await steps.section(`exec over ${transport}`, async () => {
      await execByClientGo(world, transport);
      await execByCrictl(world, transport);
    });
    await steps.section(`attach over ${transport}`, () => attach(world, transport));
    await steps.section(`port-forward over ${transport}`, () => portForward(world, transport));
  }
  await steps.section('exec by older clients', () => olderProtocols(world));
}

async function nothingIsLeft(steps: Steps, daemon: TestDaemon): Promise<void> {
  await steps.section('after the daemon', () =>
    steps.check('no process, netns or file of this run is left', async () => {
      deepStrictEqual(await processesOf(daemon), []);
      deepStrictEqual(await netnsOf(daemon), []);
      strictEqual(await exists(daemon.dir), false, daemon.dir);
    }),
  );
}
