import assert from 'node:assert/strict';
import { readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { stringify } from 'smol-toml';
import { run } from '../../src/lib/exec.ts';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import { runPod } from '../support/pods.ts';

const root = process.getuid?.() === 0;
const CAISSON = join(import.meta.dirname, '../../bin/caisson');

interface PhasesLine {
  readonly rpc: string;
  readonly sandboxId: string;
  readonly phases: readonly { readonly phase: string; readonly depth: number; readonly durationMs?: number }[];
}

describe('phases', { skip: !root && 'needs root' }, () => {
  let daemon: TestDaemon;
  before(async () => {
    daemon = await startTestDaemon({ args: ['--trace-phases'] });
  });
  after(() => daemon[Symbol.asyncDispose]());

  it('of a pod are logged by serve --trace-phases', async () => {
    const { id } = await runPod(daemon, 'traced');
    await daemon.cri.runtime.StopPodSandbox({ pod_sandbox_id: id });
    const lines = (await daemon.log()).split('\n').filter((line) => line.includes('"phases"'));
    const [start, stop] = lines.map((line) => JSON.parse(line) as PhasesLine);
    assert.deepEqual([start?.rpc, start?.sandboxId], ['RunPodSandbox', id]);
    assert.deepEqual([stop?.rpc, stop?.sandboxId], ['StopPodSandbox', id]);
    const phases = start?.phases.map(({ phase }) => phase) ?? [];
    assert.equal(phases[0], 'RunPodSandbox');
    for (const expected of ['CNI ADD bridge', 'network: netns and tap', 'vm: start QEMU', 'agent ConfigureSandbox'])
      assert.ok(phases.includes(expected), `${expected} is not in ${phases.join(', ')}`);
  });

  it('are printed by bench pod, which leaves nothing', async () => {
    const ours = async (): Promise<string[]> =>
      (await readdir(tmpdir())).filter((name) => name.startsWith('caisson-bench-'));
    const held = await ours();
    const file = join(daemon.dir, 'bench.toml');
    await writeFile(file, stringify({ vm: daemon.config.vm, network: daemon.config.network }));
    const { stdout } = await run(CAISSON, ['--config', file, 'bench', 'pod', '--count', '1']);
    for (const rpc of ['RunPodSandbox', 'CreateContainer', 'StartContainer', 'ExecSync', 'StopPodSandbox'])
      assert.match(stdout, new RegExp(`^${rpc} +\\+0\\.0 +[\\d.]+ ms  █{40}$`, 'm'));
    assert.match(stdout, /^ {2,}CNI ADD bridge .*█/m);
    assert.deepEqual(await ours(), held);
  });
});
