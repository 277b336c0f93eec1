import { removeTree } from '../src/lib/files.ts';
import { writeLayout } from './layout.ts';
import { busyboxImage } from './busybox.ts';

/** `bin/node images/build-test-image.ts DIRECTORY [NAME]` writes the busybox test image as an OCI layout. */
const [directory, name] = process.argv.slice(2);
if (directory === undefined) {
  process.stderr.write('usage: build.ts DIRECTORY [NAME]\n');
  process.exit(2);
}
await removeTree(directory);
await writeLayout(directory, [await busyboxImage(name)]);
process.stdout.write(`${directory}\n`);
