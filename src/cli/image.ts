import type { Command } from 'commander';
import { configOf } from './context.ts';
import { note, print, printJson, printTable } from './output.ts';

const MIB = 1024 * 1024;

/** What a command needs is loaded when it runs: most of them need little, and start at once. */
export function addImageCommand(program: Command): void {
  const image = program.command('image').description('build the guest image; load, pull and list container images');
  addBuild(image);
  addList(image);
  addPull(image);
  addLoad(image);
}

function addBuild(image: Command): void {
  image
    .command('build')
    .description('build the guest image (kernel, root, agent); does nothing when it is up to date')
    .option('--force', 'build it anyway')
    .action(async (options: { force?: true }, command: Command) => {
      const { buildGuestImage } = await import('./image-build.ts');
      await buildGuestImage(await configOf(command), { force: options.force === true });
    });
}

function addList(image: Command): void {
  image
    .command('list')
    .description('list the container images that the running daemon holds')
    .option('--json', 'as JSON')
    .action(async (options: { json?: true }, command: Command) => {
      const { connectDaemon } = await import('./cri-client.ts');
      using daemon = await connectDaemon((await configOf(command)).socket);
      const { images } = await daemon.image.ListImages();
      if (options.json) return printJson(images);
      printTable([
        ['IMAGE', 'ID', 'MiB'],
        ...images.flatMap(({ repo_tags, repo_digests, id, size }) =>
          (repo_tags.length > 0 ? repo_tags : repo_digests.slice(0, 1)).map((name) => [
            name,
            id.replace('sha256:', '').slice(0, 13),
            (Number(size) / MIB).toFixed(1),
          ]),
        ),
      ]);
    });
}

function addPull(image: Command): void {
  image
    .command('pull <reference>')
    .description('let the running daemon pull a container image')
    .action(async (reference: string, _options: object, command: Command) => {
      const { connectDaemon } = await import('./cri-client.ts');
      using daemon = await connectDaemon((await configOf(command)).socket);
      note(`pulling ${reference}`);
      // a large image on a slow line takes what it takes
      const pulled = await daemon.image.PullImage({ image: { image: reference } }, { deadlineMs: Infinity });
      print(pulled.image_ref);
    });
}

function addLoad(image: Command): void {
  image
    .command('load <path>')
    .description('take container images from an OCI layout (a directory or a tar of one) while no daemon runs')
    .action(async (path: string, _options: object, command: Command) => {
      const { loadOffline } = await import('./image-load.ts');
      const images = await loadOffline(await configOf(command), path);
      for (const { repoTags, id } of images) print(`${repoTags[0] ?? ''} ${id}`.trim());
    });
}
