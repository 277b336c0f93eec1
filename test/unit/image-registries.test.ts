import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parse } from 'smol-toml';
import { authFile } from '../../src/image/auth.ts';
import { registriesToml, relocated, type RegistryEntry } from '../../src/image/registries.ts';
import { skopeoError } from '../../src/image/skopeo.ts';

function entry(prefix: string, more: Partial<RegistryEntry> = {}): RegistryEntry {
  return { prefix, insecure: false, blocked: false, mirror: [], ...more };
}

function written(entries: readonly RegistryEntry[]): unknown {
  return structuredClone(parse(registriesToml(entries))); // plain objects
}

describe('registries.conf', () => {
  it('has mirrors in order, and the own name for a location', () => {
    const mirror = ['one', 'two'].map((name) => ({ location: `${name}.test`, insecure: true }));
    const table = { prefix: 'docker.io', location: 'docker.io', insecure: false, blocked: false, mirror };
    assert.deepEqual(written([entry('docker.io', { mirror })]), { registry: [table] });
  });

  it('gives a blocked registry no way around, and a wildcard no location', () => {
    const mirror = [{ location: 'mirror.test', insecure: false }];
    const blocked = entry('a.test', { location: 'b.test', blocked: true, mirror });
    assert.deepEqual(written([blocked, entry('*.c.test')]), {
      registry: [
        { prefix: 'a.test', location: 'a.test', insecure: false, blocked: true, mirror: [] },
        { prefix: '*.c.test', insecure: false, blocked: false, mirror: [] },
      ],
    });
  });

  it('without entries is valid', () => {
    assert.deepEqual(written([]), { registry: [] });
  });

  it('the longest prefix says where a repository is', () => {
    const entries = [
      entry('a.test', { location: 'x.test' }),
      entry('a.test/team', { location: 'y.test/t' }),
      entry('b.test'),
    ];
    assert.equal(relocated(entries, 'a.test/other/app'), 'x.test');
    assert.equal(relocated(entries, 'a.test/team/app'), 'y.test/t');
    assert.equal(relocated(entries, 'a.test/teams'), 'x.test');
    assert.equal(relocated(entries, 'a.test.evil/app'), undefined);
    assert.equal(relocated(entries, 'b.test/app'), undefined);
  });
});

describe('the file of credentials', () => {
  const basic = (text: string): string => Buffer.from(text).toString('base64');

  it('has them for the given hosts only', () => {
    const text = authFile({ username: 'u', password: 'p:x' }, ['a.test', 'b.test']);
    assert.deepEqual(JSON.parse(text), {
      auths: { 'a.test': { auth: basic('u:p:x') }, 'b.test': { auth: basic('u:p:x') } },
    });
  });

  it('takes the other forms, empty strings for absent', () => {
    const only = (auth: Parameters<typeof authFile>[0]): unknown => JSON.parse(authFile(auth, ['a'])).auths.a;
    assert.deepEqual(only({ username: '', auth: 'dTpw', identityToken: '' }), { auth: 'dTpw' });
    assert.deepEqual(only({ identityToken: 't' }), { auth: basic('<token>:'), identitytoken: 't' });
    assert.equal(only({ username: '', password: '' }), undefined);
    assert.equal(only(undefined), undefined);
  });

  it('a bare registry token is not supported, and not in the message', () => {
    const refused = { code: 'unimplemented', message: /registry token/ };
    assert.throws(() => authFile({ registryToken: 'secret' }, ['a']), refused);
  });
});

describe('what skopeo says', () => {
  const cases: [code: string, words: string][] = [
    ['not_found', 'reading manifest 2 in a.test/x: manifest unknown'],
    ['not_found', 'reading manifest 1 in a.test/x: name unknown: repository name not known to registry'],
    ['permission_denied', 'reading manifest: unauthorized: authentication required'],
    ['permission_denied', 'requested access to the resource is denied'],
    ['invalid_argument', 'invalid reference format: repository name must be lowercase'],
    ['permission_denied', 'registry a.test is blocked in /etc/containers/registries.conf'],
    ['untrusted', 'Source image rejected: Running image docker://a.test/x is rejected by policy.'],
    [
      'failed_precondition',
      'choosing an image from manifest list: no image found in image index for architecture "amd64"',
    ],
    [
      'unavailable',
      'pinging container registry a.test: Get "https://a.test/v2/": dial tcp: lookup a.test: no such host',
    ],
    ['unavailable', 'pinging container registry a.test: dial tcp 127.0.0.1:9: connect: connection refused'],
    ['unavailable', 'received unexpected HTTP status: 503 Service Unavailable'],
    ['unavailable', 'net/http: TLS handshake timeout'],
    ['resource_exhausted', 'writing blob: write /x/oci-put-blob1: no space left on device'],
    ['internal', 'something new'],
  ];
  for (const [code, words] of cases) {
    it(`"${words.slice(0, 50)}" is ${code}`, () => {
      const stderr = `time="2026" level=warning msg="other"\ntime="2026" level=fatal msg=${JSON.stringify(words)}\n`;
      const error = skopeoError('a.test/x:1', stderr);
      assert.equal(error.code, code);
      assert.equal(error.message, `cannot pull a.test/x:1: ${words}`);
    });
  }

  it('is told without what skopeo believes of the name', () => {
    const words = 'Error parsing image name "docker://a.test/x:1": reading manifest 1 in a.test/x: manifest unknown';
    const error = skopeoError('a.test/x:1', `time="2026" level=fatal msg=${JSON.stringify(words)}\n`);
    assert.equal(error.message, 'cannot pull a.test/x:1: reading manifest 1 in a.test/x: manifest unknown');
  });

  it('stays readable when it is not what we know', () => {
    assert.equal(skopeoError('x', '').message, 'cannot pull x: skopeo failed silently');
    assert.equal(skopeoError('x', 'panic: oh\nno').message, 'cannot pull x: no');
  });
});
