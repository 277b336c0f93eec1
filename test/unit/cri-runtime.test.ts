import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ContainerFilter, SandboxFilter } from '../../src/pod/contracts.ts';
import { collect, containerView, sandboxView, startServer } from './cri-fakes.ts';

test('Version fills all four fields', async () => {
  await using cri = await startServer({ version: '7.8.9' });
  assert.deepEqual(await cri.runtime.Version({ version: 'v1' }), {
    version: '0.1.0',
    runtime_name: 'caisson',
    runtime_version: '7.8.9',
    runtime_api_version: 'v1',
  });
});

test('Status reports both conditions, the handlers and what works', async () => {
  await using cri = await startServer({
    runtime: () => ({ ready: true, reason: '', message: '', info: { accelerator: 'tcg' } }),
    network: () => ({ ready: false, reason: 'NoConfig', message: 'no CNI configuration' }),
    features: { recursiveReadOnlyMounts: true, userNamespaces: false, supplementalGroupsPolicy: true },
  });
  const status = await cri.runtime.Status({ verbose: true });
  assert.deepEqual(status.status?.conditions, [
    { type: 'RuntimeReady', status: true, reason: '', message: '' },
    { type: 'NetworkReady', status: false, reason: 'NoConfig', message: 'no CNI configuration' },
  ]);
  const features = { recursive_read_only_mounts: true, user_namespaces: false };
  assert.deepEqual(status.runtime_handlers, [
    { name: '', features },
    { name: 'caisson', features },
    { name: 'caisson-dense', features },
  ]);
  assert.equal(status.features?.supplemental_groups_policy, true);
  assert.deepEqual(JSON.parse(status.info['info'] ?? ''), { version: '0.1.0', accelerator: 'tcg' });
  assert.deepEqual((await cri.runtime.Status({})).info, {});
});

test('RuntimeConfig says cgroupfs', async () => {
  await using cri = await startServer();
  assert.deepEqual(await cri.runtime.RuntimeConfig(), { linux: { cgroup_driver: 'CGROUPFS' } });
});

test('UpdateRuntimeConfig hands the pod CIDRs on, and nothing when there are none', async () => {
  const cidrs: string[] = [];
  await using cri = await startServer({ pods: { setPodCidr: (cidr) => void cidrs.push(cidr) } });
  await cri.runtime.UpdateRuntimeConfig({ runtime_config: { network_config: { pod_cidr: '10.1.0.0/24,fd00::/64' } } });
  await cri.runtime.UpdateRuntimeConfig({ runtime_config: { network_config: { pod_cidr: '' } } });
  await cri.runtime.UpdateRuntimeConfig({});
  assert.deepEqual(cidrs, ['10.1.0.0/24,fd00::/64']);
});

test('PodSandboxStatus has the youngest containers first', async () => {
  const ages = { old: '999', new: '1700000000000000002', middle: '1700000000000000001' };
  const containers = Object.entries(ages).map(([id, createdAt]) => ({ ...containerView, id, createdAt }));
  await using cri = await startServer({ pods: { containers: () => containers } });
  const { containers_statuses } = await cri.runtime.PodSandboxStatus({ pod_sandbox_id: 'a1a1' });
  assert.deepEqual(
    containers_statuses.map(({ id }) => id),
    ['new', 'middle', 'old'],
  );
});

test('PodSandboxStatus maps every field and adds the containers', async () => {
  const asked: ContainerFilter[] = [];
  const containers = (filter: ContainerFilter) => {
    asked.push(filter);
    return [containerView];
  };
  await using cri = await startServer({ pods: { containers } });
  const before = BigInt(Date.now()) * 1_000_000n;
  const answer = await cri.runtime.PodSandboxStatus({ pod_sandbox_id: 'a1a1', verbose: true });
  assert.deepEqual(answer.status, {
    id: sandboxView.id,
    metadata: sandboxView.metadata,
    state: 'SANDBOX_READY',
    created_at: '1795257600123456789',
    network: { ip: '10.88.0.5', additional_ips: [{ ip: 'fd00::5' }, { ip: 'fd00::6' }] },
    linux: { namespaces: { options: sandboxView.namespaceOptions } },
    labels: { app: 'web' },
    annotations: { 'example.org/note': 'ä "quoted"\nline' },
    runtime_handler: 'caisson',
  });
  assert.deepEqual(JSON.parse(answer.info['info'] ?? ''), { pid: 4711, accelerator: 'tcg' });
  assert.deepEqual(asked, [{ sandboxId: sandboxView.id }]);
  assert.equal(answer.containers_statuses[0]?.id, containerView.id);
  assert.ok(BigInt(answer.timestamp) >= before);
});

test('a sandbox without addresses and namespace options has an empty network', async () => {
  const bare = { ...sandboxView, state: 'notready', ips: [], namespaceOptions: null } as const;
  await using cri = await startServer({ pods: { sandbox: () => bare } });
  const { status, info } = await cri.runtime.PodSandboxStatus({ pod_sandbox_id: 'x' });
  assert.equal(status?.state, 'SANDBOX_NOTREADY');
  assert.deepEqual(status?.network, { ip: '', additional_ips: [] });
  assert.deepEqual(status?.linux, { namespaces: { options: null } });
  assert.deepEqual(info, {});
});

test('ContainerStatus maps every field', async () => {
  await using cri = await startServer();
  const { status, info } = await cri.runtime.ContainerStatus({ container_id: 'c3c3', verbose: true });
  const { image, ...others } = status ?? {};
  assert.equal(image?.image, 'docker.io/library/nginx:1');
  assert.deepEqual(others, {
    id: containerView.id,
    metadata: { name: 'nginx', attempt: 1 },
    state: 'CONTAINER_EXITED',
    created_at: '1795257601000000001',
    started_at: '1795257602000000002',
    finished_at: '1795257603000000003',
    exit_code: 137,
    image_ref: containerView.imageId,
    reason: 'OOMKilled',
    message: 'out of memory',
    labels: { tier: 'front' },
    annotations: { hash: 'beef' },
    mounts: containerView.mounts,
    log_path: '/var/log/pods/shop_web_u-1/nginx/1.log',
    resources: { linux: containerView.resources, windows: null },
    image_id: containerView.imageId,
    user: { linux: { uid: '101', gid: '102', supplemental_groups: ['103', '104'] } },
    stop_signal: 'SIGRTMINPLUS3',
  });
  assert.deepEqual(JSON.parse(info['info'] ?? ''), { bundle: '/run/x' });
});

test('a stop signal that the enum does not have becomes RUNTIME_DEFAULT; absent resources stay absent', async () => {
  const odd = { ...containerView, stopSignal: 'SIGNOSUCH', resources: null };
  await using cri = await startServer({ pods: { container: () => odd } });
  const { status } = await cri.runtime.ContainerStatus({ container_id: 'x' });
  assert.equal(status?.stop_signal, 'RUNTIME_DEFAULT');
  assert.equal(status?.resources, null);
});

test('ListPodSandbox hands the filter on and maps the items', async () => {
  const asked: SandboxFilter[] = [];
  const sandboxes = (filter: SandboxFilter) => {
    asked.push(filter);
    return [sandboxView];
  };
  await using cri = await startServer({ pods: { sandboxes } });
  await cri.runtime.ListPodSandbox();
  await cri.runtime.ListPodSandbox({ filter: { id: '', label_selector: {} } });
  const filter = { id: 'a1', state: { state: 'SANDBOX_NOTREADY' }, label_selector: { app: 'web' } } as const;
  const { items } = await cri.runtime.ListPodSandbox({ filter });
  await cri.runtime.ListPodSandbox({ filter: { state: {} } });
  assert.deepEqual(asked, [{}, {}, { id: 'a1', state: 'notready', labels: { app: 'web' } }, { state: 'ready' }]);
  assert.deepEqual(items, [
    {
      id: sandboxView.id,
      metadata: sandboxView.metadata,
      state: 'SANDBOX_READY',
      created_at: '1795257600123456789',
      labels: sandboxView.labels,
      annotations: sandboxView.annotations,
      runtime_handler: 'caisson',
    },
  ]);
});

test('ListContainers hands the filter on and maps the items', async () => {
  const asked: ContainerFilter[] = [];
  const containers = (filter: ContainerFilter) => {
    asked.push(filter);
    return [containerView];
  };
  await using cri = await startServer({ pods: { containers } });
  const state = { state: 'CONTAINER_EXITED' } as const;
  const filter = { id: 'c3', pod_sandbox_id: 'a1', state, label_selector: { tier: 'front' } };
  const answer = await cri.runtime.ListContainers({ filter });
  assert.deepEqual(asked, [{ id: 'c3', sandboxId: 'a1', state: 'exited', labels: { tier: 'front' } }]);
  const { image, ...others } = answer.containers[0] ?? {};
  assert.equal(image?.image, 'docker.io/library/nginx:1');
  assert.deepEqual(others, {
    id: containerView.id,
    pod_sandbox_id: sandboxView.id,
    metadata: containerView.metadata,
    image_ref: containerView.imageId,
    image_id: containerView.imageId,
    state: 'CONTAINER_EXITED',
    created_at: containerView.createdAt,
    labels: containerView.labels,
    annotations: containerView.annotations,
  });
});

test('the Stream twins send each item once in messages that are not empty, then end', async () => {
  const sandboxes = Array.from({ length: 70 }, (_, at) => ({ ...sandboxView, id: `s${at}` }));
  // more messages than fit the stream at once, so that it has to wait for its reader
  const containers = Array.from({ length: 1000 }, (_, at) => ({ ...containerView, id: `c${at}` }));
  await using cri = await startServer({ pods: { sandboxes: () => sandboxes, containers: () => containers } });
  const pods = (await collect(cri.runtime.StreamPodSandboxes())).map((message) => message.pod_sandboxes);
  assert.deepEqual(
    pods.map((part) => part.length),
    [32, 32, 6],
  );
  assert.deepEqual(
    pods.flat().map(({ id }) => id),
    sandboxes.map(({ id }) => id),
  );
  const parts = (await collect(cri.runtime.StreamContainers())).map((message) => message.containers);
  assert.deepEqual(
    parts.flat().map(({ id }) => id),
    containers.map(({ id }) => id),
  );
  assert.deepEqual(await collect(cri.image.StreamImages()), []);
});
