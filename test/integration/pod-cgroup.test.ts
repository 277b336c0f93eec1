import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { status } from '@grpc/grpc-js';
import {
  enterCgroup,
  findHierarchies,
  makeCgroup,
  memoryLimit,
  parseHierarchies,
  removeCgroup,
  startedIn,
} from '../../src/lib/cgroup.ts';
import { run } from '../../src/lib/exec.ts';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';
import { assertLeavesNothing, cgroupsOfProcesses, countResources, type Resources } from '../support/resources.ts';

const hierarchies = await findHierarchies();
const isRoot = process.getuid?.() === 0;
const skip = !isRoot ? 'needs root' : hierarchies.length === 0 ? 'the host has no cgroups' : false;

describe('the cgroup of a pod on the host', { skip }, () => {
  let daemon: TestDaemon;
  let empty: Resources;
  let own: string;
  const inParent = (cgroup_parent: string) => ({ linux: { cgroup_parent } });
  const remove = (pod: pods.TestPod) => daemon.cri.runtime.RemovePodSandbox({ pod_sandbox_id: pod.id });

  before(async () => {
    daemon = await startTestDaemon();
    own = daemon.config.vm.cgroup_parent;
    empty = await countResources(daemon);
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('holds QEMU, its helpers and virtiofsd, and goes with the pod', async () => {
    const pod = await pods.runPod(daemon, 'placed', inParent(`${own}/kubepods/pod1/`));
    const data = join(daemon.dir, 'data');
    await mkdir(data);
    const mounts = [{ container_path: '/data', host_path: data }];
    await pods.createAndStart(pod, 'web', ['sleep', '100000'], { mounts });
    assert.deepEqual(await cgroupsOfProcesses(daemon), [`${own}/kubepods/pod1/caisson-${pod.id}`]);
    const { virtiofsd, cgroups } = await countResources(daemon);
    assert.ok(virtiofsd > 0 && cgroups === empty.cgroups + hierarchies.length);
    await remove(pod);
    await assertLeavesNothing(daemon, empty);
  });

  it('counts the memory of its VM', async () => {
    const pod = await pods.runPod(daemon, 'counted');
    assert.deepEqual(await cgroupsOfProcesses(daemon), [`${own}/caisson-${pod.id}`]);
    const memory = hierarchies.find(({ controllers }) => controllers.includes('memory'));
    if (memory) {
      const file = memory.version === 2 ? 'memory.current' : 'memory.usage_in_bytes';
      const bytes = Number(await readFile(`${memory.root}${own}/caisson-${pod.id}/${file}`, 'utf8'));
      assert.ok(bytes > 64 * 1024 * 1024, `${bytes} bytes: the guest's memory is not in it`);
    }
    await remove(pod);
  });

  it('is removed by the next daemon, too', async () => {
    const pod = await pods.runPod(daemon, 'outlives');
    await daemon.stop('SIGKILL');
    await daemon.restart();
    await remove(pod);
    await assertLeavesNothing(daemon, empty);
  });

  it('may be named as a slice of systemd', async () => {
    const word = own.slice(1).replaceAll('-', '');
    await using undo = new AsyncDisposableStack();
    undo.defer(() => removeCgroup(hierarchies, `/${word}.slice`));
    const pod = await pods.runPod(daemon, 'sliced', inParent(`${word}-pod1.slice`));
    undo.defer(async () => void (await remove(pod)));
    const slice = `/${word}.slice/${word}-pod1.slice`;
    assert.deepEqual(await cgroupsOfProcesses(daemon), [`${slice}/caisson-${pod.id}`]);
  });

  it('is elsewhere when its parent would have the VM killed for want of memory', async () => {
    const parent = `${own}/small`;
    await makeCgroup(hierarchies, parent);
    const memory = hierarchies.find(({ controllers }) => controllers.includes('memory'));
    assert.ok(memory);
    const file = memory.version === 2 ? 'memory.max' : 'memory.limit_in_bytes';
    await writeFile(`${memory.root}${parent}/${file}`, String(64 * 1024 * 1024));
    assert.equal(await memoryLimit(hierarchies, `${parent}/below`), 64 * 1024 * 1024);
    const pod = await pods.runPod(daemon, 'large', inParent(parent));
    assert.deepEqual(await cgroupsOfProcesses(daemon), [`${own}/caisson-${pod.id}`]);
    assert.match(await daemon.log(), /give its RuntimeClass an overhead/);
    await remove(pod);
    await assertLeavesNothing(daemon, empty);
  });

  it('has a parent that is a place', async () => {
    for (const parent of ['relative', '/a/../../b', '/a/./b', 'a--b.slice', '/a\nb'])
      await assert.rejects(
        pods.runPod(daemon, 'nowhere', inParent(parent)),
        { code: status.INVALID_ARGUMENT, details: /cgroup_parent/ },
        parent,
      );
  });
});

describe('cgroups of version 2', { skip: isRoot ? false : 'needs root' }, () => {
  const mountinfo = [
    '30 20 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
    '31 20 0:26 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct',
    '32 20 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd',
    '33 20 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
    '34 20 0:25 / /elsewhere rw - cgroup cgroup rw,memory',
    '35 20 0:29 /docker/x /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids',
  ].join('\n');

  it('are told from those of version 1', () => {
    const found = parseHierarchies(mountinfo).map(({ root, version, controllers }) => [root, version, controllers]);
    assert.deepEqual(found, [
      ['/sys/fs/cgroup/memory', 1, ['memory']],
      ['/sys/fs/cgroup/cpu,cpuacct', 1, ['cpu', 'cpuacct']],
      ['/sys/fs/cgroup/systemd', 1, []],
      ['/sys/fs/cgroup/unified', 2, []],
    ]);
  });

  it('are made, entered and removed', async (test) => {
    const mounted = parseHierarchies(await readFile('/proc/self/mountinfo', 'utf8'));
    const unified = mounted.find(({ version }) => version === 2);
    if (!unified) return test.skip('the host has none');
    const path = `/caisson-test-${process.pid}/inner`;
    await using undo = new AsyncDisposableStack();
    undo.defer(() => removeCgroup([unified], `/caisson-test-${process.pid}`));
    await makeCgroup([unified], path);
    await makeCgroup([unified], path);
    const sleeper = spawn('sleep', ['1000']);
    const ended = once(sleeper, 'exit');
    undo.defer(async () => {
      sleeper.kill();
      await ended;
    });
    await enterCgroup([unified], path, [sleeper.pid ?? 0, 2 ** 22 - 1]);
    const cgroupLine = async (pid: string): Promise<string> =>
      /^0::(.*)$/m.exec(await readFile(`/proc/${pid}/cgroup`, 'utf8'))?.[1] ?? '';
    assert.equal(await cgroupLine(String(sleeper.pid)), path);
    const [program = '', ...args] = startedIn([`${unified.root}${path}`], ['cat', '/proc/self/cgroup']);
    assert.match((await run(program, args)).stdout, new RegExp(`^0::${path}$`, 'm'));
    return undefined;
  });
});
