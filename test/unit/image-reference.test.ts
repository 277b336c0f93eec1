import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatReference, parse, parseReference, repository } from '../../src/image/reference.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

describe('image names', () => {
  const names: Record<string, string> = {
    busybox: 'docker.io/library/busybox:latest',
    'busybox:1.36': 'docker.io/library/busybox:1.36',
    'library/busybox': 'docker.io/library/busybox:latest',
    'team/app': 'docker.io/team/app:latest',
    'docker.io/busybox': 'docker.io/library/busybox:latest',
    'index.docker.io/busybox': 'docker.io/library/busybox:latest',
    'localhost/app': 'localhost/app:latest',
    'localhost:5000/app:2': 'localhost:5000/app:2',
    'registry.test/a/b/c:v1': 'registry.test/a/b/c:v1',
    'registry.test:443/a': 'registry.test:443/a:latest',
    '[::1]:5000/a': '[::1]:5000/a:latest',
    'Host/app': 'Host/app:latest',
    'a_b/c__d.e-f--g': 'docker.io/a_b/c__d.e-f--g:latest',
    [`busybox@${DIGEST}`]: `docker.io/library/busybox@${DIGEST}`,
    [`busybox:1@${DIGEST}`]: `docker.io/library/busybox@${DIGEST}`,
  };
  for (const [name, full] of Object.entries(names)) {
    it(`${name.slice(0, 40)} is completed`, () => assert.equal(formatReference(parseReference(name)), full));
  }

  it('completing twice changes nothing', () => {
    for (const full of Object.values(names)) assert.equal(formatReference(parseReference(full)), full);
  });

  it('what is none is refused, however odd', () => {
    const bare = 'b'.repeat(64);
    const broken = ['', ' ', 'UPPER', 'a//b', '/a', 'a/', 'a:', ':a', 'a@', `a@sha256:12`, 'a b', '-a', 'a..b', bare];
    const hostile = [
      'a:--help',
      '--help',
      'a\n',
      'docker://a',
      '../a',
      `${'a/'.repeat(200)}a`,
      `a@${DIGEST}@${DIGEST}`,
    ];
    for (const text of [...broken, ...hostile]) assert.equal(parse(text), undefined, JSON.stringify(text));
    assert.throws(() => parseReference('UPPER'), { code: 'invalid_argument', message: '"UPPER" is not an image name' });
  });

  it('the repository is the name without tag', () => {
    assert.equal(repository(parseReference('localhost:5000/a:1')), 'localhost:5000/a');
  });
});
