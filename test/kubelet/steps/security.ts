import { match, notStrictEqual, strictEqual } from 'node:assert/strict';
import { container, inPod, pod, WAIT, waitReady, withPod, type World } from '../world.ts';

export async function security({ steps, kubectl }: World): Promise<void> {
  await steps.check('user, groups, read-only root, capabilities, seccomp and no new privileges', async () => {
    const securityContext = {
      runAsUser: 1000,
      runAsGroup: 3000,
      runAsNonRoot: true,
      readOnlyRootFilesystem: true,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    };
    const spec = {
      securityContext: {
        fsGroup: 4000,
        supplementalGroups: [5000],
        supplementalGroupsPolicy: 'Strict',
        sysctls: [{ name: 'net.ipv4.ip_unprivileged_port_start', value: '80' }],
      },
      containers: [
        container('strict', WAIT, { securityContext, volumeMounts: [{ name: 'work', mountPath: '/work' }] }),
      ],
      volumes: [{ name: 'work', emptyDir: {} }],
    };
    await withPod(kubectl, pod('strict', spec), async () => {
      await waitReady(kubectl, 'strict');
      const sh = (script: string) => inPod(kubectl, 'strict', 'sh', '-c', script);
      strictEqual(await sh('id -u; id -g; id -G'), '1000\n3000\n3000 4000 5000');
      match(await sh('touch /new 2>&1 || true'), /Read-only file system/);
      const status = await sh('cat /proc/1/status');
      match(status, /^CapEff:\t0+$/m);
      match(status, /^NoNewPrivs:\t1$/m);
      match(status, /^Seccomp:\t2$/m);
      strictEqual(await sh('touch /work/file && stat -c "%u %g" /work/file'), '1000 4000');
      strictEqual(await sh('cat /proc/sys/net/ipv4/ip_unprivileged_port_start'), '80');
    });
  });
  await steps.check('seccompDefault: a pod that says nothing has RuntimeDefault', async () => {
    await withPod(kubectl, pod('plain', { containers: [container('plain', WAIT)] }), async () => {
      await waitReady(kubectl, 'plain');
      match(await inPod(kubectl, 'plain', 'cat', '/proc/1/status'), /^Seccomp:\t2$/m);
    });
  });
  await steps.check('hostUsers: false: root in the container is nobody on the node, and owns its volumes', async () => {
    const spec = {
      hostUsers: false,
      containers: [container('mapped', WAIT, { volumeMounts: [{ name: 'work', mountPath: '/work' }] })],
      volumes: [{ name: 'work', emptyDir: {} }],
    };
    await withPod(kubectl, pod('mapped', spec), async () => {
      await waitReady(kubectl, 'mapped');
      const [inside, outside, size] = (await inPod(kubectl, 'mapped', 'cat', '/proc/self/uid_map')).trim().split(/\s+/);
      strictEqual(inside, '0');
      notStrictEqual(outside, '0');
      strictEqual(size, '65536');
      strictEqual(await inPod(kubectl, 'mapped', 'sh', '-c', 'touch /work/file && stat -c %u /work/file'), '0');
    });
  });
  await steps.check('runAsNonRoot: an image of root’s is refused, in words', async () => {
    const spec = { containers: [container('rooted', WAIT, { securityContext: { runAsNonRoot: true } })] };
    await withPod(kubectl, pod('rooted', spec), async () => {
      const reason = '{.status.containerStatuses[0].state.waiting.reason}';
      await kubectl.ok('wait', `--for=jsonpath=${reason}=CreateContainerConfigError`, 'pod/rooted', '--timeout=300s');
    });
  });
  await steps.check('hostNetwork: refused, and the event tells why', async () => {
    await withPod(kubectl, pod('hosted', { hostNetwork: true, containers: [container('hosted', WAIT)] }), async () => {
      const events = await eventsOf(kubectl, 'hosted', /FailedCreatePodSandBox/);
      match(events, /network namespace/);
    });
  });
}

async function eventsOf(kubectl: World['kubectl'], name: string, wanted: RegExp): Promise<string> {
  const client = kubectl.start('events', '--for', `pod/${name}`, '--watch');
  let text = '';
  for await (const chunk of client.stdout) {
    text += String(chunk);
    if (wanted.test(text) && text.endsWith('\n')) break;
  }
  client.kill();
  return text;
}
