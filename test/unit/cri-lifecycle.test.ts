import { status } from '@grpc/grpc-js';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CaissonError } from '../../src/lib/errors.ts';
import type { ContainerConfig, PodSandboxConfig } from '../../src/pod/contracts.ts';
import { startServer } from './cri-fakes.ts';

const metadata = { name: 'web', namespace: 'shop', uid: 'u-1' };

test('RunPodSandbox hands the whole config on', async () => {
  const seen: [PodSandboxConfig, string][] = [];
  const runSandbox = (config: PodSandboxConfig, handler: string) => {
    seen.push([config, handler]);
    return Promise.resolve('new-id');
  };
  await using cri = await startServer({ pods: { runSandbox } });
  const config = { metadata, hostname: 'web', port_mappings: [{ container_port: 80 }] };
  const answer = await cri.runtime.RunPodSandbox({ config, runtime_handler: 'caisson' });
  assert.equal(answer.pod_sandbox_id, 'new-id');
  assert.equal(seen[0]?.[0].port_mappings[0]?.protocol, 'TCP');
  assert.deepEqual(seen[0]?.[0].metadata, { ...metadata, attempt: 0 });
  assert.equal(seen[0]?.[0].linux, null);
  assert.equal(seen[0]?.[1], 'caisson');
});

test('CreateContainer hands both configs on; env values arrive as bytes', async () => {
  const seen: [string, ContainerConfig, PodSandboxConfig | null][] = [];
  const createContainer = (id: string, config: ContainerConfig, sandboxConfig: PodSandboxConfig | null) => {
    seen.push([id, config, sandboxConfig]);
    return Promise.resolve('c-id');
  };
  await using cri = await startServer({ pods: { createContainer } });
  const envs = [{ key: 'RAW', value: Buffer.from([0xff, 0x00]) }];
  const config = { metadata: { name: 'c' }, image: { image: 'nginx' }, envs };
  const answer = await cri.runtime.CreateContainer({ pod_sandbox_id: 'p', config });
  assert.equal(answer.container_id, 'c-id');
  assert.equal(seen[0]?.[0], 'p');
  assert.deepEqual(seen[0]?.[1].envs[0]?.value, Buffer.from([0xff, 0x00]));
  assert.equal(seen[0]?.[2], null);
});

test('the RPCs without answers call the pod service', async () => {
  const calls: unknown[][] = [];
  const note =
    (name: string) =>
    async (...args: unknown[]) => {
      calls.push([name, ...args.filter((arg) => !(arg instanceof AbortSignal))]);
    };
  await using cri = await startServer({
    pods: {
      stopSandbox: note('stopSandbox'),
      removeSandbox: note('removeSandbox'),
      startContainer: note('startContainer'),
      stopContainer: note('stopContainer'),
      removeContainer: note('removeContainer'),
      reopenLog: note('reopenLog'),
    },
  });
  await cri.runtime.StopPodSandbox({ pod_sandbox_id: 'p' });
  await cri.runtime.RemovePodSandbox({ pod_sandbox_id: 'p' });
  await cri.runtime.StartContainer({ container_id: 'c' });
  await cri.runtime.StopContainer({ container_id: 'c', timeout: 30 });
  await cri.runtime.StopContainer({ container_id: 'c', timeout: '9223372036854775807' });
  await cri.runtime.RemoveContainer({ container_id: 'c' });
  await cri.runtime.ReopenContainerLog({ container_id: 'c' });
  assert.deepEqual(calls, [
    ['stopSandbox', 'p'],
    ['removeSandbox', 'p'],
    ['startContainer', 'c'],
    ['stopContainer', 'c', 30_000],
    ['stopContainer', 'c', 2 ** 31 - 1],
    ['removeContainer', 'c'],
    ['reopenLog', 'c'],
  ]);
});

test('ExecSync returns raw bytes of both streams, also above 16 MiB together', async () => {
  const seen: unknown[] = [];
  const stdout = Buffer.alloc(16 * 1024 * 1024, 0xfe);
  const execSync = (id: string, command: readonly string[], timeoutMs: number) => {
    seen.push(id, command, timeoutMs);
    return Promise.resolve({ stdout, stderr: stdout, exitCode: 3 });
  };
  await using cri = await startServer({ pods: { execSync } });
  const answer = await cri.runtime.ExecSync({ container_id: 'c', cmd: ['echo', ''], timeout: 5 });
  assert.deepEqual(seen, ['c', ['echo', ''], 5000]);
  assert.equal(answer.exit_code, 3);
  assert.ok(stdout.equals(answer.stdout) && stdout.equals(answer.stderr));
});

test('an ExecSync that takes too long is DEADLINE_EXCEEDED, as the kubelet wants', async () => {
  const execSync = () => Promise.reject(new CaissonError('deadline_exceeded', 'sleep did not end within 1 s'));
  await using cri = await startServer({ pods: { execSync } });
  const call = cri.runtime.ExecSync({ container_id: 'c', cmd: ['sleep', '9'], timeout: 1 });
  await assert.rejects(call, { code: status.DEADLINE_EXCEEDED, details: 'sleep did not end within 1 s' });
});
