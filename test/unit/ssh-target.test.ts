import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EVERYTHING, permitsOf } from '../../src/ssh/permits.ts';
import { containerOf, podOf } from '../../src/ssh/target.ts';
import { fakeLists, type FakePod } from '../support/ssh/gateway.ts';

const id = (digits: string): string => digits.padEnd(64, '0');

const PODS: readonly FakePod[] = [
  { name: 'web', id: id('aaaa1'), ips: ['10.0.0.1'], containers: { app: id('c1'), sidecar: id('c2') } },
  { name: 'db', namespace: 'prod', id: id('aaaa2'), containers: { pg: id('d1d1') } },
  { name: 'app.web', id: id('bbbb'), containers: { main: id('eeee') } },
  { name: 'old', id: id('cccc'), state: 'notready', containers: { app: id('abcd') } },
  { name: 'empty', id: id('dddd'), containers: {} },
];
const lists = fakeLists(PODS);
const container = (name: string, permits = EVERYTHING): string => containerOf(lists, name, permits).containerId;

describe('a target of ssh', () => {
  it('is a container by its full name, and a pod that has one container', () => {
    assert.equal(container('sidecar.web.default'), id('c2'));
    assert.equal(container('pg.db.prod'), id('d1d1'));
    assert.equal(container('db.prod'), id('d1d1'));
    assert.equal(container('main.app.web.default'), id('eeee'));
  });

  it('is a prefix of an id', () => {
    assert.equal(container('d1d1'), id('d1d1'));
    assert.equal(container('aaaa2'), id('d1d1'));
    assert.equal(podOf(lists, 'd1d1', EVERYTHING).sandboxId, id('aaaa2'));
  });

  it('that can mean several things is refused with all of them', () => {
    assert.throws(() => container('web.default'), {
      code: 'invalid_argument',
      message: `"web.default" can mean: app.web.default (${id('c1').slice(0, 13)}), sidecar.web.default (${id('c2').slice(0, 13)})`,
    });
    // a container of one pod, and another pod
    assert.throws(() => container('app.web.default'), /app\.web\.default \(c1.*main\.app\.web\.default \(eeee/);
    assert.throws(() => container('aaaa'), /app\.web\.default.*pg\.db\.prod/);
  });

  it('for a port is the pod, whatever runs in it', () => {
    assert.deepEqual(podOf(lists, 'web.default', EVERYTHING), { sandboxId: id('aaaa1'), ips: ['10.0.0.1'] });
    assert.equal(podOf(lists, 'sidecar.web.default', EVERYTHING).sandboxId, id('aaaa1'));
    assert.equal(podOf(lists, 'empty.default', EVERYTHING).sandboxId, id('dddd'));
    assert.throws(() => podOf(lists, 'app.web.default', EVERYTHING), /can mean/);
  });

  it('that does not run, or is nothing, is not found', () => {
    for (const name of ['app.old.default', 'abcd', 'cccc', 'no.such.thing', 'x.default'])
      assert.throws(() => container(name), { code: 'not_found' }, name);
    assert.throws(() => container('empty.default'), /no container runs in pod "empty.default"/);
    for (const name of ['', 'web', 'abc', 'ABCD', 'x'.repeat(1000), 'vm:'])
      assert.throws(() => container(name), /names no container/, name);
  });

  it('that a key may not enter looks as if it were not there', () => {
    const permits = permitsOf([{ name: 'pods', value: 'default/web,dev/*' }]);
    assert.equal(container('app.web.default', permits), id('c1'));
    for (const name of ['db.prod', 'd1d1', 'nothing.prod']) {
      assert.throws(() => container(name, permits), {
        message: `nothing of the name ${JSON.stringify(name)} runs that this key may enter`,
      });
    }
  });
});
