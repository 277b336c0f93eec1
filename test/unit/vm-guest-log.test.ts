import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { GuestLog } from '../../src/vm/guest-log.ts';

const MIB = 1024 * 1024;

/** A guest that prints what is written to it, into `guest.log` of a new directory. */
async function guest(
  t: TestContext,
): Promise<{ readonly printer: Socket; readonly log: GuestLog; readonly path: string }> {
  const directory = await mkdtemp(join(tmpdir(), 'caisson-guest-log-'));
  const server = createServer().listen(join(directory, 'console.sock'));
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const console = connect(join(directory, 'console.sock'));
  const [printer] = await accepted;
  const path = join(directory, 'guest.log');
  const log = new GuestLog(console, path);
  t.after(async () => {
    log[Symbol.dispose]();
    printer.destroy();
    server.close();
    await rm(directory, { recursive: true });
  });
  return { printer, log, path };
}

const printed = async ({ printer, log }: { readonly printer: Socket; readonly log: GuestLog }, text: string) => {
  printer.write(text);
  await log.waitFor((tail) => tail.endsWith(text.slice(-16)));
};

describe("a guest's log", () => {
  it('goes on in another file when it is full, and forgets the one before', async (t) => {
    const one = await guest(t);
    await printed(one, `${'a'.repeat(MIB)}first end`);
    await printed(one, `${'b'.repeat(MIB)}second end`);
    await printed(one, 'the last words are here');
    assert.equal(await readFile(one.path, 'utf8'), 'the last words are here');
    assert.match((await readFile(`${one.path}.1`, 'utf8')).slice(-20), /second end/);
  });

  it('keeps its bound, and the daemon alive, when there can be no other file', async (t) => {
    const one = await guest(t);
    await mkdir(`${one.path}.1`);
    await writeFile(`${one.path}.1/in-the-way`, '');
    await printed(one, `${'a'.repeat(2 * MIB)}first end`);
    await printed(one, 'the last words are here');
    assert.ok((await stat(one.path)).size <= MIB + 64 * 1024);
    assert.match(one.log.tail(), /the last words are here$/);
  });
});
