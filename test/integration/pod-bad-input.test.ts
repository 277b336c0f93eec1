import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';
import { assertLeavesNothing, countResources, type Resources } from '../support/resources.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
/** A CNI plugin that does what the file `mode` beside it says: `ok`, or `<fail|hang>-<ADD|DEL>`. */
const PLUGIN = `#!/bin/sh
here=$(dirname "$0")
case "$CNI_COMMAND" in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}'; exit 0 ;;
esac
input=$(cat)
case "$(cat "$here/mode")" in
fail-$CNI_COMMAND) echo '{"cniVersion":"1.0.0","code":100,"msg":"no luck today","details":"the test says so"}'; exit 1 ;;
hang-$CNI_COMMAND) sleep 1000 ;;
esac
[ "$CNI_COMMAND" = ADD ] && printf '%s' "$input" | sed 's/.*"prevResult"://; s/}$//'
exit 0
`;

describe('requests that cannot be met', { skip }, () => {
  let daemon: TestDaemon;
  let plugins: string;
  let empty: Resources;
  const runtime = () => daemon.cri.runtime;
  const runPod = (overrides: Parameters<typeof pods.sandboxConfig>[2], handler = '') =>
    runtime().RunPodSandbox({ config: pods.sandboxConfig(daemon, 'bad', overrides), runtime_handler: handler });
  const mode = (text: string) => writeFile(join(plugins, 'mode'), text);

  before(async () => {
    plugins = await temporaryDirectory();
    await writeFile(join(plugins, 'moody'), PLUGIN, { mode: 0o755 });
    await mode('ok');
    const network = { bin_dirs: [plugins, '/opt/cni/bin', '/usr/lib/cni'], plugin_timeout_s: 2 };
    daemon = await startTestDaemon({ config: { network } });
    await daemon.cni.addPlugin({ type: 'moody' });
    await sleep(500); // for the daemon to have seen the new configuration
    empty = await countResources(daemon);
  });
  afterEach(async () => {
    await mode('ok');
    const { items } = await runtime().ListPodSandbox();
    await Promise.all(items.map(({ id }) => runtime().RemovePodSandbox({ pod_sandbox_id: id })));
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
    await rm(plugins, { recursive: true });
  });

  it('names the field of a pod that can never run', async () => {
    const good = { name: 'bad', namespace: 'default', uid: 'u' };
    const options = (kind: string) => ({
      linux: { security_context: { namespace_options: { [kind]: 'NODE' as const } } },
    });
    const cases: [object, RegExp, string?][] = [
      [{ metadata: null }, /config\.metadata is missing/],
      [{ metadata: { ...good, name: '' } }, /config\.metadata\.name is empty/],
      [{ metadata: { ...good, namespace: '' } }, /config\.metadata\.namespace is empty/],
      [{ metadata: { ...good, uid: '' } }, /config\.metadata\.uid is empty/],
      [{}, /runtime_handler "runc" is none of/, 'runc'],
      [options('network'), /namespace_options\.network.*host driver/],
      [options('ipc'), /namespace_options\.ipc.*host driver/],
      [{ hostname: 'x'.repeat(65) }, /config\.hostname/],
      [{ hostname: 'a b' }, /config\.hostname/],
      [{ dns_config: { servers: ['example'] } }, /dns_config\.servers/],
      [{ dns_config: { searches: ['a b'] } }, /dns_config\.searches/],
      [{ dns_config: { options: ['a\nnameserver 1.2.3.4'] } }, /dns_config\.options/],
      [{ port_mappings: [{ host_port: 70_000, container_port: 80 }] }, /port_mappings.*host_port/],
      [{ port_mappings: [{ host_port: 80, container_port: -1 }] }, /port_mappings.*container_port/],
      [{ annotations: { 'kubernetes.io/ingress-bandwidth': 'fast' } }, /ingress-bandwidth/],
      [{ log_directory: 'relative' }, /config\.log_directory/],
      [{ linux: { resources: { memory_limit_in_bytes: '-4' } } }, /linux\.resources\.memory_limit_in_bytes.*negative/],
    ];
    for (const [overrides, details, handler] of cases) {
      await assert.rejects(runPod(overrides, handler), { code: status.INVALID_ARGUMENT, details }, String(details));
    }
    await assert.rejects(runtime().RunPodSandbox({}), { code: status.INVALID_ARGUMENT, details: /config is missing/ });
    assert.deepEqual((await runtime().ListPodSandbox()).items, []);
    await assertLeavesNothing(daemon, empty);
  });

  it('does not know sandboxes and containers that are not there', async () => {
    const unknown = { code: status.NOT_FOUND, details: /ffff/ };
    const id = 'f'.repeat(64);
    await assert.rejects(runtime().PodSandboxStatus({ pod_sandbox_id: id }), unknown);
    await assert.rejects(runtime().ContainerStatus({ container_id: id }), unknown);
    await assert.rejects(runtime().StartContainer({ container_id: id }), unknown);
    await assert.rejects(pods.create({ id, config: {}, daemon }, 'x', ['true']), unknown);
  });

  it('undoes a pod whose sysctl the guest refuses', async () => {
    const sysctl = (name: string, value: string) => runPod({ linux: { sysctls: { [name]: value } } });
    await assert.rejects(sysctl('net.ipv4.ip_forward', 'much'), {
      code: status.INVALID_ARGUMENT,
      details: /net\.ipv4\.ip_forward/,
    });
    await assert.rejects(sysctl('../../etc/passwd', 'x'), { code: status.INVALID_ARGUMENT, details: /sysctl.*passwd/ });
    await assertLeavesNothing(daemon, empty);
  });

  it('names the field of a container that can never run', async () => {
    const pod = await pods.runPod(daemon, 'good');
    const held = await countResources(daemon);
    const security = (context: object) => ({ linux: { security_context: context } });
    const cases: [object, status, RegExp][] = [
      [{ metadata: null }, status.INVALID_ARGUMENT, /config\.metadata is missing/],
      [{ metadata: { name: '' } }, status.INVALID_ARGUMENT, /config\.metadata\.name is empty/],
      [{ image: null }, status.INVALID_ARGUMENT, /config\.image/],
      [{ image: { image: '' } }, status.INVALID_ARGUMENT, /config\.image\.image is empty/],
      [{ image: { image: 'caisson.test/none:latest' } }, status.NOT_FOUND, /config\.image.*caisson\.test\/none/],
      [{ log_path: '../../escape.log' }, status.INVALID_ARGUMENT, /config\.log_path/],
      [{ working_dir: 'relative' }, status.INVALID_ARGUMENT, /config\.working_dir/],
      [{ envs: [{ key: 'A=B', value: Buffer.from('x') }] }, status.INVALID_ARGUMENT, /config\.envs.*A=B/],
      [{ envs: [{ key: 'A', value: Buffer.from('x\0y') }] }, status.INVALID_ARGUMENT, /config\.envs.*A/],
      [{ command: ['sh', 'a\0b'] }, status.INVALID_ARGUMENT, /config\.command/],
      [security({ run_as_username: 'nobody-here' }), status.INVALID_ARGUMENT, /user "nobody-here"/],
      [security({ run_as_user: { value: '-1' } }), status.INVALID_ARGUMENT, /user/],
      [security({ run_as_user: { value: '4294967296' } }), status.INVALID_ARGUMENT, /user/],
      [security({ run_as_group: { value: '5' } }), status.INVALID_ARGUMENT, /run_as_group/],
      [
        security({ run_as_user: { value: '1' }, supplemental_groups: ['-7'] }),
        status.INVALID_ARGUMENT,
        /supplemental_groups/,
      ],
      [security({ capabilities: { add_capabilities: ['FLY'] } }), status.INVALID_ARGUMENT, /capabilities.*FLY/],
      [security({ namespace_options: { network: 'NODE' } }), status.INVALID_ARGUMENT, /options\.network.*host driver/],
      [security({ namespace_options: { ipc: 'NODE' } }), status.INVALID_ARGUMENT, /options\.ipc.*host driver/],
      [{ linux: { resources: { memory_limit_in_bytes: '-5' } } }, status.INVALID_ARGUMENT, /memory_limit_in_bytes/],
    ];
    for (const [overrides, code, details] of cases) {
      await assert.rejects(pods.create(pod, 'bad', ['true'], overrides), { code, details }, String(details));
    }
    assert.deepEqual((await runtime().ListContainers()).containers, []);

    const noDirectory = await pods.create(pod, 'no-directory', ['true'], { working_dir: '/etc/passwd' });
    await assert.rejects(runtime().StartContainer({ container_id: noDirectory }), {
      code: status.INVALID_ARGUMENT,
      details: /working_dir "\/etc\/passwd": Not a directory/,
    });
    assert.equal((await pods.containerStatus(daemon, noDirectory)).exit_code, 128);

    const expected = [
      ['/no/such/command', 127, /\/no\/such\/command/],
      ['no-such-command', 127, /no-such-command/],
      ['/etc/passwd', 126, /\/etc\/passwd/],
      ['', 127, /cannot start/],
    ] as const;
    for (const [command, exitCode, details] of expected) {
      const id = await pods.create(pod, 'not-found', [command]);
      await assert.rejects(runtime().StartContainer({ container_id: id }), {
        code: status.FAILED_PRECONDITION,
        details,
      });
      const ended = await pods.containerStatus(daemon, id);
      assert.deepEqual(
        [ended.state, ended.exit_code, ended.reason],
        ['CONTAINER_EXITED', exitCode, 'StartError'],
        command,
      );
      if (command !== '') assert.match(ended.message, details);
      await runtime().RemoveContainer({ container_id: id });
    }
    // a directory is where the log is to be: that can be mended, so the container stays as it is
    const logless = await pods.create(pod, 'logless', ['true'], { log_path: '/' });
    await assert.rejects(runtime().StartContainer({ container_id: logless }), {
      code: status.FAILED_PRECONDITION,
      details: /log_path of container logless/,
    });
    assert.equal((await pods.containerStatus(daemon, logless)).state, 'CONTAINER_CREATED');
    await runtime().RemoveContainer({ container_id: logless });
    // the pod is none the worse for it
    const shell = await pods.createAndStart(pod, 'shell', ['sleep', '1000']);
    assert.equal((await pods.sh(daemon, shell, 'echo fine')).stdout, 'fine\n');
    assert.deepEqual(await countResources(daemon), held);
    await runtime().RemovePodSandbox({ pod_sandbox_id: pod.id });
    await assertLeavesNothing(daemon, empty);
  });

  it('undoes a pod whose network fails or hangs', async () => {
    await mode('fail-ADD');
    await assert.rejects(runPod({}), { code: status.UNAVAILABLE, details: /moody.*no luck today/ });
    await assertLeavesNothing(daemon, empty);
    await mode('hang-ADD');
    const started = performance.now();
    await assert.rejects(runPod({}), { code: status.DEADLINE_EXCEEDED, details: /moody/ });
    assert.ok(performance.now() - started < 15_000);
    await mode('ok');
    await assertLeavesNothing(daemon, empty);
  });

  it('says what a stop could not undo, and does it the next time', async () => {
    const pod = await pods.runPod(daemon, 'del-fails');
    const id = await pods.createAndStart(pod, 'shell', ['sleep', '1000']);
    await mode('fail-DEL');
    await assert.rejects(runtime().StopPodSandbox({ pod_sandbox_id: pod.id }), { details: /no luck today/ });
    const { status: shown } = await runtime().PodSandboxStatus({ pod_sandbox_id: pod.id });
    assert.equal(shown?.state, 'SANDBOX_NOTREADY');
    assert.equal((await pods.containerStatus(daemon, id)).state, 'CONTAINER_EXITED');
    assert.equal((await countResources(daemon)).qemu, 0);
    await mode('ok');
    await runtime().StopPodSandbox({ pod_sandbox_id: pod.id });
    await runtime().RemovePodSandbox({ pod_sandbox_id: pod.id });
    await assertLeavesNothing(daemon, empty);
  });
});
