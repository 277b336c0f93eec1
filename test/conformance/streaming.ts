/**
 * Drives a real daemon's streams with client-go (which is what kubectl and the kubelet use), crictl, and OpenSSH's
 * clients: `npm run test:streaming`, or `bin/node test/conformance/streaming.ts [kubernetes] [ssh]` after
 * `bin/setup streaming`. Ends with `N passed, N failed`.
 */
import { countFds } from '../support/resources.ts';
import { runStory } from '../support/story.ts';
import { Crictl, CRICTL } from './crictl/run.ts';
import { attach } from './streaming/attach.ts';
import { execByClientGo, execByCrictl, olderProtocols, refusals } from './streaming/exec.ts';
import { nothingIsHeld, vmDies } from './streaming/faults.ts';
import { portForward } from './streaming/forward.ts';
import { setUpSsh, sshSessions, sshFiles, sshPorts, sshRefusals } from './streaming/ssh.ts';
import { startPod, STREAMS, TRANSPORTS, type World } from './streaming/world.ts';

const parts = process.argv.slice(2);
const wants = (part: 'kubernetes' | 'ssh'): boolean => parts.length === 0 || parts.includes(part);

const options = {
  programs: wants('kubernetes') ? [CRICTL, STREAMS] : [CRICTL],
  hint: 'run bin/setup streaming, or npm run test:streaming',
};
process.exitCode = await runStory(options, async ({ steps, lab, interrupted, watch }) => {
  const started = await steps.need('bin/caisson serve, and a pod', () => startPod(lab));
  const { daemon } = started;
  watch(daemon);
  const crictl = await Crictl.configure(daemon.dir, daemon.config.socket, interrupted);
  await story({ ...started, steps, crictl });
});

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
