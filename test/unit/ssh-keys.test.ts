import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import ssh2 from 'ssh2';
import { setUpSsh, withBlock } from '../../src/cli/ssh-setup.ts';
import { configSchema } from '../../src/config/schema.ts';
import { parseAuthorizedKeys } from '../../src/ssh/authorized-keys.ts';
import { Environment } from '../../src/ssh/environment.ts';
import { matchesGlob } from '../../src/ssh/glob.ts';
import { newKey } from '../../src/ssh/new-key.ts';
import { mayEnter, type Permits } from '../../src/ssh/permits.ts';
import { makeKey } from '../support/ssh/gateway.ts';

const { publicKey: KEY } = makeKey();

function permits(options: string): Permits {
  const { keys, refused } = parseAuthorizedKeys(`${options} ${KEY} a comment`);
  assert.deepEqual(refused, [], options);
  const [entry] = keys.values();
  assert.ok(entry);
  assert.equal(entry.comment, 'a comment');
  return entry.permits;
}

const refusal = (line: string): string | undefined => parseAuthorizedKeys(line).refused[0]?.why;

describe('the file of keys', () => {
  it('has options', () => {
    const { publicKey: plain } = makeKey();
    const { keys } = parseAuthorizedKeys(`# comment\n\n  ${plain}\n`);
    assert.deepEqual([...keys.values()][0]?.permits, {
      pods: undefined,
      pty: true,
      forwarding: true,
      ports: undefined,
    });
    assert.equal(permits('no-pty').pty, false);
    assert.equal(permits('No-PTY').pty, false);
    assert.deepEqual([permits('restrict').pty, permits('restrict').forwarding], [false, false]);
    assert.deepEqual([permits('restrict,pty').pty, permits('restrict,pty').forwarding], [true, false]);
    assert.deepEqual([...(permits('permitopen="localhost:80",permitopen="[::1]:443"').ports ?? [])], [80, 443]);
    assert.equal(permits('permitopen="*:*"').ports, undefined);
    const { pods } = permits('pods="dev/*,prod/web-*",no-pty');
    assert.deepEqual(pods, ['dev/*', 'prod/web-*']);
  });

  it('refuses a line that has anything it does not know', () => {
    assert.equal(refusal(`command="x" ${KEY}`), 'unknown option "command"');
    assert.equal(refusal(`from="10.*" ${KEY}`), 'unknown option "from"');
    assert.equal(refusal(`pods ${KEY}`), 'unknown option "pods"');
    assert.equal(refusal(`no-pty="x" ${KEY}`), 'no-pty takes no value');
    assert.match(refusal(`pods="dev" ${KEY}`) ?? '', /no namespace\/pod/);
    assert.match(refusal(`pods="dev/*",pods="a/b" ${KEY}`) ?? '', /twice/);
    assert.match(refusal(`permitopen="example.org:80" ${KEY}`) ?? '', /not the pod's localhost/);
    assert.match(refusal(`permitopen="localhost:99999" ${KEY}`) ?? '', /not a TCP port/);
    assert.match(refusal(`pods="dev/* ${KEY}`) ?? '', /cannot be read/);
    assert.match(refusal('ssh-ed25519 AAAA') ?? '', /cannot be read/);
    assert.match(refusal('nonsense') ?? '', /cannot be read/);
    assert.match(refusal('ssh-dss AAAA') ?? '', /not taken/);
    assert.match(refusal('sk-ssh-ed25519@openssh.com AAAA') ?? '', /not taken/);
    assert.match(refusal(`${KEY}\n${KEY}`) ?? '', /earlier line/);
    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey.export({
      type: 'pkcs1',
      format: 'pem',
    });
    const parsed = ssh2.utils.parseKey(weak);
    assert.ok(!(parsed instanceof Error));
    assert.match(refusal(`ssh-rsa ${parsed.getPublicSSH().toString('base64')}`) ?? '', /2048 bits/);
  });

  it('a bad line does not spoil the others', () => {
    const { keys, refused } = parseAuthorizedKeys(`command="x" ${makeKey().publicKey}\n${KEY}\n`);
    assert.deepEqual([keys.size, refused.map(({ line }) => line)], [1, [1]]);
  });

  it('patterns of pods do not cross the slash', () => {
    const only = (pods: string[]): Permits => ({ pods, pty: true, forwarding: true, ports: undefined });
    assert.ok(mayEnter(only(['dev/*']), { namespace: 'dev', name: 'x' }));
    assert.ok(!mayEnter(only(['dev/*']), { namespace: 'dev2', name: 'x' }));
    assert.ok(!mayEnter(only(['dev*/web']), { namespace: 'dev', name: 'a' }));
    for (const [pattern, text, fits] of [
      ['a*c', 'abc', true],
      ['a*c', 'ac', true],
      ['a*a', 'a', false],
      ['*b*', 'abc', true],
      ['*a*b*', 'ba', false],
      ['*', 'a/b', false],
      ['*/*', 'a/b', true],
      ['LC_*', 'LC_ALL', true],
    ] as const)
      assert.equal(matchesGlob(pattern, text), fits, `${pattern} ${text}`);
  });
});

describe('a new key', () => {
  it('can be read, each of a thousand', () => {
    for (let i = 0; i < 1000; i++) {
      const { privateKey, publicKey } = newKey('somebody');
      const [secret, open] = [ssh2.utils.parseKey(privateKey), ssh2.utils.parseKey(publicKey)];
      assert.ok(!(secret instanceof Error) && !(open instanceof Error));
      assert.ok(secret.getPublicSSH().equals(open.getPublicSSH()));
    }
  });
});

describe('variables of a client', () => {
  it('are those that are allowed, and not too many', () => {
    const environment = new Environment(['LANG', 'LC_*']);
    assert.ok(environment.set('LANG', 'C'));
    for (const [name, value] of [
      ['PATH', '/x'],
      ['LC_X', 'a\0b'],
      ['LC_=', 'x'],
      ['', 'x'],
      ['LC_X', 'x'.repeat(5000)],
    ] as const)
      assert.ok(!environment.set(name, value), name);
    for (let i = 0; i < 100; i++) environment.set(`LC_${i}`, 'x');
    assert.equal(Object.keys(environment.values).length, 64);
  });
});

describe('caisson ssh setup', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
  it('can be repeated, and leaves what is not its own alone', async () => {
    const home = await mkdtemp(join(tmpdir(), 'caisson-ssh-'));
    try {
      const config = configSchema.parse({ root: join(home, 'root'), state: join(home, 'state') });
      await setUpSsh(config, { home });
      await writeFile(
        join(home, '.ssh/config'),
        `Host a\n\n${await readFile(join(home, '.ssh/config'), 'utf8')}\nHost b\n`,
      );
      const names = ['.ssh/config', '.ssh/caisson_ed25519', 'root/ssh/authorized_keys', '.ssh/caisson_known_hosts'];
      const read = () => Promise.all(names.map((name) => readFile(join(home, name), 'utf8')));
      const before = await read();
      const said = await setUpSsh(config, { home });
      assert.deepEqual(await read(), before);
      assert.match(said.join('\n'), /is in .*authorized_keys already[^]*block for Host \*\.caisson already/);
      assert.equal((await stat(join(home, '.ssh/caisson_ed25519'))).mode & 0o777, 0o600);
      await setUpSsh(config, { home, options: 'pods="dev/*",no-pty' });
      assert.match(
        await readFile(join(home, 'root/ssh/authorized_keys'), 'utf8'),
        /^pods="dev\/\*",no-pty ssh-ed25519 \S+ .*\n$/,
      );
      await assert.rejects(setUpSsh(config, { home, options: 'nonsense' }), /unknown option/);
    } finally {
      await rm(home, { recursive: true });
    }
  });

  it('has keys sent at once, by a client that can be told so, and tells no other', async () => {
    const home = await mkdtemp(join(tmpdir(), 'caisson-ssh-'));
    const path = process.env['PATH'];
    try {
      const config = configSchema.parse({ root: join(home, 'root'), state: join(home, 'state') });
      const block = async (): Promise<string> => {
        await setUpSsh(config, { home });
        return readFile(join(home, '.ssh/config'), 'utf8');
      };
      process.env['PATH'] = home;
      for (const code of [0, 255]) {
        await writeFile(join(home, 'ssh'), `#!/bin/sh\nexit ${code}\n`, { mode: 0o755 });
        assert.equal(/^  ObscureKeystrokeTiming no$/m.test(await block()), code === 0);
      }
      process.env['PATH'] = join(home, 'nothing');
      assert.doesNotMatch(await block(), /ObscureKeystrokeTiming/);
    } finally {
      process.env['PATH'] = path;
      await rm(home, { recursive: true });
    }
  });

  it('puts its block at the end, where it changes nothing for others', () => {
    const block = '# begin caisson: written by `caisson ssh setup`\nHost x\n# end caisson';
    assert.equal(withBlock('', block), `${block}\n`);
    assert.equal(withBlock('Host a\n', block), `Host a\n\n${block}\n`);
    assert.equal(
      withBlock(withBlock('Host a', block), block.replace('x', 'y')),
      `Host a\n\n${block.replace('x', 'y')}\n`,
    );
  });
});
