/** The guest's SFTP server, in a directory of this machine; by ssh2's client through the gateway, and by raw packets. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { BadPacket, byte, packet, string, uint32 } from '../../guest-agent/src/sftp/packets.ts';
import { SftpServer } from '../../guest-agent/src/sftp/server.ts';
import { removeTree } from '../../src/lib/files.ts';
import { run } from '../../src/lib/exec.ts';
import { startGateway } from '../support/ssh/gateway.ts';
import { openSftp } from '../support/ssh/sftp.ts';
import { fakeStreams } from '../support/streaming/fake-streams.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const MIB = 1024 * 1024;

describe('the SFTP server', { timeout: 300_000 }, () => {
  it('reads, writes, lists, renames, links and removes', async () => {
    await using place = await startPlace();
    const { sftp, dir } = place;
    const bytes = randomBytes(MIB).toString('base64');
    await sftp.mkdir(`${dir}/d`);
    await sftp.writeFile(`${dir}/d/file`, bytes);
    assert.equal(await readFile(join(dir, 'd/file'), 'utf8'), bytes);
    assert.equal(await sftp.readFile(`${dir}/d/file`), bytes);
    await sftp.chmod(`${dir}/d/file`, 0o640);
    await sftp.utimes(`${dir}/d/file`, 1_000_000, 2_000_000);
    const { mode, size, mtime } = await sftp.stat(`${dir}/d/file`);
    assert.deepEqual([mode & 0o777, size, mtime], [0o640, bytes.length, 2_000_000]);
    await sftp.symlink('d/file', `${dir}/link`);
    assert.equal(await sftp.readlink(`${dir}/link`), 'd/file');
    assert.ok((await sftp.lstat(`${dir}/link`)).isSymbolicLink());
    assert.ok((await sftp.stat(`${dir}/link`)).isFile());
    assert.equal(await sftp.realpath(`${dir}/link`), `${dir}/d/file`);
    assert.equal(await sftp.realpath(`${dir}/d/../none`), `${dir}/none`);
    assert.deepEqual((await sftp.readdir(dir)).map(({ filename }) => filename).toSorted(), ['d', 'link']);
    await assert.rejects(sftp.rename(`${dir}/d/file`, `${dir}/link`), /exists already/);
    await sftp.rename(`${dir}/d/file`, `${dir}/moved`);
    await sftp.rmdir(`${dir}/d`);
    await sftp.unlink(`${dir}/moved`);
    assert.deepEqual(
      (await sftp.readdir(dir)).map(({ filename }) => filename),
      ['link'],
    );
  });

  it('has the errors of version 3', async () => {
    await using place = await startPlace();
    const { sftp, dir } = place;
    await assert.rejects(sftp.readFile(`${dir}/none`), { code: 2 });
    await assert.rejects(sftp.readdir(`${dir}/none`), { code: 2 });
    await mkdir(join(dir, 'd'));
    await writeFile(join(dir, 'd/file'), '');
    await assert.rejects(sftp.rmdir(`${dir}/d`), { code: 4 });
  });

  it('waits for no pipe, and opens nothing that is no file', async () => {
    await using place = await startPlace();
    const { sftp, dir } = place;
    await run('mkfifo', [join(dir, 'pipe')]);
    await assert.rejects(sftp.readFile(`${dir}/pipe`), /no regular file/);
    await assert.rejects(sftp.writeFile(`${dir}/pipe`, 'x'), /ENXIO/);
    await assert.rejects(sftp.readFile('/dev/zero'), /no regular file/);
    await assert.rejects(sftp.readFile(dir), /no regular file|EISDIR/);
  });

  it('lists names that are no text, and many of them', async () => {
    await using place = await startPlace();
    const { sftp, dir } = place;
    await writeFile(Buffer.concat([Buffer.from(`${dir}/`), Buffer.from([0xff, 0xfe])]), '');
    for (let i = 0; i < 250; i++) await writeFile(join(dir, `file ${i}`), '');
    await symlink('/nowhere', join(dir, 'dangling'));
    const names = await sftp.readdir(dir);
    assert.equal(names.length, 252);
    assert.match(
      names.find(({ filename }) => filename === 'dangling')?.longname ?? '',
      /^lrwxrwxrwx +1 \d+ +\d+ +8 .* dangling$/,
    );
  });

  it('has a bounded number of files open', async () => {
    const server = opened();
    const answers = Array.from({ length: 201 }, (_, i) =>
      ask(server, byte(3), uint32(i), string('/etc/passwd'), uint32(1), uint32(0)),
    );
    assert.equal(answers.at(-2)?.[0], 102);
    assert.equal(answers.at(-1)?.[0], 101);
    server.close();
    assert.equal(ask(server, byte(3), uint32(1), string('/etc/passwd'), uint32(1), uint32(0))[0], 102);
    server.close();
  });

  it('ends with who does not speak SFTP', () => {
    assert.throws(() => [...new SftpServer({ home: '/' }).take(Buffer.from('GET / HTTP/1.1\r\n\r\n'))], BadPacket);
    assert.throws(() => [...new SftpServer({ home: '/' }).take(packet(byte(3), uint32(1)))], BadPacket);
    assert.throws(() => ask(opened(), byte(3), uint32(1), uint32(1000)), BadPacket);
    assert.equal(ask(opened(), byte(250), uint32(1)).readUInt32BE(5), 8);
  });
});

function opened(): SftpServer {
  const server = new SftpServer({ home: '/' });
  ask(server, byte(1), uint32(3));
  return server;
}

/** The answer without its length; in two pieces, as a network would. */
function ask(server: SftpServer, ...fields: Buffer[]): Buffer {
  const request = packet(...fields);
  const answers = [...server.take(request.subarray(0, 6)), ...server.take(request.subarray(6))];
  return answers[0]?.subarray(4) ?? Buffer.alloc(0);
}

async function startPlace() {
  await using stack = new AsyncDisposableStack();
  const streams = stack.use(fakeStreams());
  const gateway = stack.use(await startGateway({ streams }));
  const dir = await temporaryDirectory();
  stack.defer(() => removeTree(dir));
  assert.ok((await stat(dir)).isDirectory());
  const client = await gateway.client();
  stack.defer(() => void client.end());
  const sftp = await openSftp(client);
  const release = stack.move();
  return { sftp, dir, [Symbol.asyncDispose]: () => release.disposeAsync() };
}
