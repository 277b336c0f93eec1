import { readdir, writeFile } from 'node:fs/promises';
import { readFileIfExists } from '../../src/lib/files.ts';
import { CaissonError } from '../../src/lib/errors.ts';

const DIRECTORY = '/sys/devices/system/cpu';
const APPEAR_TIMEOUT_MS = 10_000;
const LOOK_AGAIN_MS = 10;

/** Brings processors online until there are `count`; those just plugged in take a moment to appear, without a file event. */
export async function onlineProcessors(count: number): Promise<void> {
  const deadline = performance.now() + APPEAR_TIMEOUT_MS;
  for (;;) {
    const names = (await readdir(DIRECTORY)).filter((name) => /^cpu\d+$/.test(name));
    for (const name of names.slice(0, count)) await bringOnline(`${DIRECTORY}/${name}/online`);
    if (names.length >= count) return;
    if (performance.now() > deadline)
      throw new CaissonError('unavailable', `the guest has ${names.length} processors and was to have ${count}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  }
}

/** The first processor has no such file: it cannot be switched off. */
async function bringOnline(file: string): Promise<void> {
  if ((await readFileIfExists(file))?.trim() === '0') await writeFile(file, '1');
}
