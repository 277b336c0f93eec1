/** `npm run generate`: makes the TypeScript types of our .proto files in proto/generated where they are out of date. */
import { mkdir, mkdtemp, rename, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { isErrno } from '../errors.ts';
import { run } from '../exec.ts';
import { ignoreMissing, removeTree } from '../files.ts';

const root = join(import.meta.dirname, '../../..');

/** Paths below the repository's root; `stamp` is the file of `out` whose age counts. */
const targets = [
  { proto: 'proto/runtime/v1/api.proto', out: 'proto/generated/runtime', stamp: 'api.ts' },
  { proto: 'proto/agent/v1/agent.proto', out: 'proto/generated/agent', stamp: 'agent.ts' },
  { proto: 'proto/extensions/v1/extensions.proto', out: 'proto/generated/extensions', stamp: 'extensions.ts' },
];

/** Must agree with the loader's options in load.ts. */
const flags = [
  '--longs=String',
  '--enums=String',
  '--defaults',
  '--oneofs',
  '--keepCase',
  '--grpcLib=@grpc/grpc-js',
  '--targetFileExtension=.ts',
  '--importFileExtension=.ts',
];

for (const target of targets) {
  if (await isOutOfDate(target)) await generate(target);
}

async function isOutOfDate({ proto, out, stamp }: (typeof targets)[number]): Promise<boolean> {
  const source = await modifiedMs(join(root, proto));
  if (source === undefined) return false;
  const generated = await modifiedMs(join(root, out, stamp));
  return generated === undefined || generated < source;
}

/** `ms` since the epoch; undefined when there is no such file. */
async function modifiedMs(path: string): Promise<number | undefined> {
  return stat(path).then((stats) => stats.mtimeMs, ignoreMissing(undefined));
}

/** Writes beside the old directory and swaps, so that a killed run never leaves half of the types behind. */
async function generate({ proto, out }: (typeof targets)[number]): Promise<void> {
  const script = createRequire(import.meta.url).resolve('@grpc/proto-loader/build/bin/proto-loader-gen-types.js');
  await mkdir(join(root, 'proto/generated'), { recursive: true });
  const fresh = await mkdtemp(join(root, 'proto/generated/.new-'));
  try {
    await run(process.execPath, [script, ...flags, `--outDir=${join(fresh, 'types')}`, proto], { cwd: root });
    await removeTree(join(root, out));
    await moveInto(join(fresh, 'types'), join(root, out));
  } finally {
    await removeTree(fresh);
  }
}

async function moveInto(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    // another run was first, with the same result
    if (!isErrno(error, 'ENOTEMPTY') && !isErrno(error, 'EEXIST')) throw error;
  }
}
