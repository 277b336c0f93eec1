import assert from 'node:assert/strict';
import { constants } from 'node:fs';
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { run } from '../../src/lib/exec.ts';
import type { VolumePort } from '../../src/storage/contracts.ts';
import { openVolumes } from '../../src/storage/volumes/index.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';

interface Node {
  readonly home: string;
  readonly volumes: VolumePort;
  /** undefined where there are none */
  readonly loop: string | undefined;
}

/** A formatted loop device, of which nobody else knows. */
async function node(t: TestContext): Promise<Node> {
  const home = await mkdtemp(join(tmpdir(), 'caisson-devices-'));
  t.after(() => rm(home, { recursive: true }));
  const disk = join(home, 'disk');
  await writeFile(disk, '');
  await run('truncate', ['-s', '8M', disk]);
  await run('mkfs.ext4', ['-q', '-F', disk]);
  const attached = await run('losetup', ['--show', '-f', disk], { okCodes: [0, 1] });
  const loop = attached.exitCode === 0 ? attached.stdout.trim() : undefined;
  if (loop !== undefined) t.after(async () => void (await run('losetup', ['-d', loop])));
  return { home, loop, volumes: await openVolumes({ stateDir: home, config: { virtiofsd: '/nonexistent' } }) };
}

const useOf = async (volumes: VolumePort, path: string): Promise<string | undefined> => {
  await using device = await volumes.open(path);
  return await volumes.useOf(device);
};

describe('a block device of the node', { skip }, () => {
  it("is nobody's, however many ask at once", async (t) => {
    const { volumes, loop } = await node(t);
    if (loop === undefined) return t.skip('no loop devices');
    const answers = await Promise.all(Array.from({ length: 8 }, () => useOf(volumes, loop)));
    assert.deepEqual([...new Set(answers)], [undefined]);
  });

  it('has a place when it is mounted', async (t) => {
    const { volumes, loop, home } = await node(t);
    if (loop === undefined) return t.skip('no loop devices');
    const place = join(home, 'place');
    await mkdir(place);
    await run('mount', [loop, place]);
    try {
      assert.equal(await useOf(volumes, loop), `has mounted on ${place}`);
    } finally {
      await run('umount', [place]);
    }
  });

  it('is known as used when the kernel has given it to somebody, for whatever', async (t) => {
    const { volumes, loop } = await node(t);
    if (loop === undefined) return t.skip('no loop devices');
    const claim = await open(loop, constants.O_RDONLY | constants.O_EXCL);
    try {
      assert.match((await useOf(volumes, loop)) ?? '', /^uses/);
    } finally {
      await claim.close();
    }
    assert.equal(await useOf(volumes, loop), undefined);
  });
});
