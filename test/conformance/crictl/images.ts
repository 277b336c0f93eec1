import { deepStrictEqual, match, notStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { join } from 'node:path';
import type { FsInfo, ImageEntry, ImageInspection, ImageList, Info } from './output.ts';
import { BUSYBOX, WEB, WEB_PORT, type World } from './world.ts';

export async function aboutTheDaemon({ steps, crictl }: World): Promise<void> {
  await steps.check('version', async () => {
    const printed = await crictl.ok('version');
    match(printed, /^Version: +0\.1\.0$/m);
    match(printed, /^RuntimeName: +caisson$/m);
    match(printed, /^RuntimeVersion: +\d+\.\d+\.\d+$/m);
    match(printed, /^RuntimeApiVersion: +v1$/m);
  });
  await steps.check('info: runtime and network are ready', async () => {
    const { status, info, runtimeHandlers } = await crictl.json<Info>('info');
    const ready = status.conditions.filter((condition) => condition.status).map(({ type }) => type);
    deepStrictEqual(ready.toSorted(), ['NetworkReady', 'RuntimeReady']);
    ok(info, 'no verbose information');
    deepStrictEqual(runtimeHandlers?.map(({ name = '' }) => name).toSorted(), ['', 'caisson', 'caisson-dense']);
  });
  await steps.check('info as a go-template, quiet', async () => {
    const template = '{{range .status.conditions}}{{.type}} {{end}}';
    match(await crictl.ok('info', '-q', '-o', 'go-template', '--template', template), /RuntimeReady/);
  });
  await steps.check('runtime-config names the cgroup driver', async () => {
    match(await crictl.ok('runtime-config'), /cgroup/i);
  });
}

export async function pullImages({ steps, crictl, daemon, busybox, web }: World): Promise<void> {
  await steps.check('images: none yet', async () => {
    deepStrictEqual((await crictl.json<ImageList>('images')).images, []);
  });
  const id = busybox.configDigest;
  await steps.need('pull by tag', async () => {
    match(await crictl.ok('pull', BUSYBOX), new RegExp(`${id}$`));
  });
  await steps.check('pull untagged and by its short name: latest of docker.io/library', async () => {
    match(await crictl.ok('pull', 'busybox'), new RegExp(`${id}$`));
  });
  await steps.check('pull by digest', async () => {
    match(await crictl.ok('pull', `docker.io/library/busybox@${busybox.manifestDigest}`), new RegExp(`${id}$`));
  });
  await steps.need('pull of another image', async () => {
    match(await crictl.ok('pull', WEB), new RegExp(`${web.configDigest}$`));
  });
  await steps.check('pull again is quick: nothing is converted twice', async () => {
    const startedMs = performance.now();
    await crictl.ok('pull', WEB);
    ok(performance.now() - startedMs < 5000);
  });
  await steps.check('pull of a tag that is not there: NotFound, which names it', async () => {
    await crictl.fails(
      /NotFound.*docker\.io\/library\/busybox:no-such-tag/s,
      'pull',
      'docker.io/library/busybox:no-such-tag',
    );
  });
  await steps.check('pull of a name that is none: InvalidArgument', async () => {
    await crictl.fails(/InvalidArgument.*Not:A:Name/s, 'pull', 'Not:A:Name');
  });

  await steps.check('images: names and digests of each', async () => {
    const { images } = await crictl.json<ImageList>('images');
    strictEqual(images.length, 2);
    const entry = imageOf(images, id);
    deepStrictEqual(entry.repoTags.toSorted(), [BUSYBOX, 'docker.io/library/busybox:latest']);
    deepStrictEqual(entry.repoDigests, [`docker.io/library/busybox@${busybox.manifestDigest}`]);
    ok(Number(entry.size) > 500_000, `size ${entry.size}`);
    strictEqual(entry.pinned, false);
  });
  await steps.check('images by name, by -q and by --filter', async () => {
    await crictl.lists([id], 'images', BUSYBOX);
    await crictl.lists([web.configDigest], 'images', '--filter', 'reference=web');
    await crictl.lists([], 'images', 'docker.io/library/nothing:1.0');
    match(
      await crictl.ok('images', '--digests', '--no-trunc'),
      new RegExp(`busybox +1\\.0 +${busybox.manifestDigest}`),
    );
  });
  await steps.check('inspecti by name, by id, by digest and by a part of the id', async () => {
    const names = [WEB, web.configDigest, `docker.io/library/web@${web.manifestDigest}`, web.configDigest.slice(7, 20)];
    for (const name of names) {
      const { status, info } = await crictl.json<ImageInspection>('inspecti', name);
      strictEqual(status.id, web.configDigest);
      deepStrictEqual(info.config.cmd, ['httpd', '-f', '-p', String(WEB_PORT), '-h', '/www']);
    }
  });
  await steps.check('inspecti of an unknown image fails', async () => {
    await crictl.fails(
      /no such image .*docker\.io\/library\/nothing:1\.0/,
      'inspecti',
      'docker.io/library/nothing:1.0',
    );
  });
  await steps.check('imagefsinfo: images and containers, with true sizes', async () => {
    const { imageFilesystems, containerFilesystems } = (await crictl.json<FsInfo>('imagefsinfo')).status;
    const [images] = imageFilesystems;
    const { images: entries } = await crictl.json<ImageList>('images');
    strictEqual(images?.fsId.mountpoint, join(daemon.config.root, 'images'));
    ok(Number(images.usedBytes.value) >= Math.max(...entries.map(({ size }) => Number(size))), 'less than one image');
    ok(Number(images.inodesUsed.value) >= 2);
    notStrictEqual(containerFilesystems[0]?.fsId.mountpoint, undefined);
  });
}

/** When no container is left. */
export async function removeImages({ steps, crictl, busybox, web }: World): Promise<void> {
  const used = async (): Promise<number> =>
    Number((await crictl.json<FsInfo>('imagefsinfo')).status.imageFilesystems[0]?.usedBytes.value);
  const before = await used();
  await steps.check('rmi by one of two names removes the image', async () => {
    match(await crictl.ok('rmi', BUSYBOX), new RegExp(`^Deleted: ${BUSYBOX}$`, 'm'));
    await crictl.lists([web.configDigest], 'images');
  });
  await steps.check('rmi of it again fails', async () => {
    await crictl.fails(/no such image/, 'rmi', busybox.configDigest);
  });
  await steps.check('a layer that another image shares stays', async () => {
    const { status } = await crictl.json<ImageInspection>('inspecti', WEB);
    ok(Number(status.size) > 500_000);
  });
  await steps.check('rmi --all; imagefsinfo shows the space', async () => {
    await crictl.ok('rmi', '--all');
    await crictl.lists([], 'images');
    const after = await used();
    ok(after < before / 10, `${before} bytes before, ${after} after`);
  });
}

function imageOf(images: readonly ImageEntry[], id: string): ImageEntry {
  const found = images.find((image) => image.id === id);
  if (!found) throw new Error(`no image ${id}`);
  return found;
}
