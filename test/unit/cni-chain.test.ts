import assert from 'node:assert/strict';
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { isCaissonError } from '../../src/lib/errors.ts';
import type { ErrorCode } from '../../src/lib/errors.ts';
import { addChain, checkChain, delChain } from '../../src/network/cni/chain.ts';
import { pluginErrorOf } from '../../src/network/cni/exec.ts';
import { capabilityArgs, cniArgs, withAddresses } from '../../src/network/cni/request.ts';
import type { Attachment } from '../../src/network/cni/types.ts';

const RESULT = '{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/24"}],"custom":"kept"}';
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'caisson-cni-unit-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** A plugin that records its calls; `body` is what it does on ADD, and may print. */
async function plugin(name: string, onAdd: string, onDel = ''): Promise<void> {
  const script = `#!/bin/sh
cat > ${directory}/stdin-${name}-$CNI_COMMAND
env | grep ^CNI_ > ${directory}/env-${name}-$CNI_COMMAND
echo ${name} $CNI_COMMAND >> ${directory}/calls
case $CNI_COMMAND in ADD) ${onAdd};; DEL) ${onDel === '' ? ':' : onDel};; esac
`;
  await writeFile(join(directory, name), script, { mode: 0o755 });
}

function attachment(types: readonly string[], fields: Partial<Attachment> = {}): Attachment {
  return {
    network: {
      name: 'net',
      cniVersion: '1.0.0',
      disableCheck: false,
      source: 'test',
      plugins: types.map((type) => ({ type, own: 'key', capabilities: { portMappings: type === 'b' } })),
    },
    containerId: 'c1',
    netnsPath: '/run/netns/none',
    ifName: 'eth0',
    args: 'IgnoreUnknown=1',
    capabilityArgs: { portMappings: [{ hostPort: 80 }], bandwidth: { ingressRate: 1 } },
    ...fields,
  };
}

const runner = (timeoutMs = 5000) => ({ binDirs: ['/nonexistent', directory], timeoutMs });
const unexpected = (error: unknown): never => assert.fail(String(error));
const calls = async (): Promise<string[]> => (await readFile(join(directory, 'calls'), 'utf8')).trim().split('\n');
const stdin = async (of: string): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(join(directory, `stdin-${of}`), 'utf8')) as Record<string, unknown>;

async function failAdd(
  types: readonly string[],
  code: ErrorCode,
  message: RegExp,
  timeoutMs?: number,
): Promise<unknown> {
  const cleanup: unknown[] = [];
  const add = addChain(runner(timeoutMs), attachment(types), new AbortController().signal, (error) =>
    cleanup.push(error),
  );
  const error = await add.then(
    () => assert.fail('ADD succeeded'),
    (thrown: unknown) => thrown,
  );
  assert.ok(isCaissonError(error, code), String(error));
  assert.match(error.message, message);
  return error;
}

describe('CNI plugin chain', () => {
  it('gives each plugin its configuration, the result before it and the capabilities it declares', async () => {
    await plugin('a', `echo '${RESULT}'`);
    await plugin('b', `echo '${RESULT}'`);
    const given = attachment(['a', 'b']);
    const result = await addChain(runner(), given, new AbortController().signal, unexpected);
    assert.equal(result['custom'], 'kept');
    assert.deepEqual(await stdin('a-ADD'), { type: 'a', own: 'key', name: 'net', cniVersion: '1.0.0' });
    const second = await stdin('b-ADD');
    assert.deepEqual(second['runtimeConfig'], { portMappings: [{ hostPort: 80 }] });
    assert.equal((second['prevResult'] as Record<string, unknown>)['custom'], 'kept');
    const env = await readFile(join(directory, 'env-b-ADD'), 'utf8');
    for (const line of [
      'CNI_CONTAINERID=c1',
      'CNI_NETNS=/run/netns/none',
      'CNI_IFNAME=eth0',
      'CNI_ARGS=IgnoreUnknown=1',
    ]) {
      assert.ok(env.includes(`${line}\n`), line);
    }
    assert.ok(env.includes(`CNI_PATH=/nonexistent:${directory}\n`));
    await checkChain(runner(), given, result, new AbortController().signal);
    await delChain(runner(), given, result);
    assert.deepEqual(await calls(), ['a ADD', 'b ADD', 'a CHECK', 'b CHECK', 'b DEL', 'a DEL']);
    assert.equal(((await stdin('a-DEL'))['prevResult'] as Record<string, unknown>)['custom'], 'kept');
  });

  it("reports the plugin's own error and undoes all of the chain", async () => {
    await plugin('a', `echo '${RESULT}'`);
    await plugin('b', `echo '{"code":11,"msg":"try again","details":"no lease"}'; exit 1`);
    const error = await failAdd(
      ['a', 'b'],
      'unavailable',
      /^CNI plugin b \(ADD\) failed: try again: no lease \(code 11\)$/,
    );
    assert.deepEqual(pluginErrorOf(error), { code: 11, msg: 'try again', details: 'no lease' });
    assert.deepEqual(await calls(), ['a ADD', 'b ADD', 'b DEL', 'a DEL']);
  });

  it('reports the end of stderr when a plugin dies without an error object', async () => {
    await plugin('a', 'echo panic: nil map >&2; exit 2');
    await failAdd(['a'], 'unavailable', /^CNI plugin a \(ADD\) failed with exit code 2: panic: nil map$/);
  });

  it('kills a hanging plugin', async () => {
    await plugin('a', 'exec sleep 30');
    await failAdd(['a'], 'deadline_exceeded', /^CNI plugin a \(ADD\) did not finish within 300 ms$/, 300);
    assert.deepEqual(await calls(), ['a ADD', 'a DEL']);
  });

  it('does not wait for a child that outlives its killed plugin', async () => {
    await plugin('a', 'sleep 4; echo late');
    const begun = performance.now();
    await failAdd(['a'], 'deadline_exceeded', /a \(ADD\) did not finish/, 300);
    assert.ok(performance.now() - begun < 6000);
  });

  it('stops at cancellation and still cleans up', async () => {
    await plugin('a', 'exec sleep 30');
    const add = addChain(runner(), attachment(['a']), AbortSignal.timeout(200), unexpected);
    await assert.rejects(add, (error) => isCaissonError(error, 'cancelled'));
    assert.deepEqual(await calls(), ['a ADD', 'a DEL']);
  });

  it('lets a plugin finish that is cancelled while it works', async () => {
    const done = join(directory, 'finished');
    await plugin('a', `sleep 0.5; touch ${done}; echo '${RESULT}'`);
    await plugin('b', 'echo "never run"');
    const add = addChain(runner(), attachment(['a', 'b']), AbortSignal.timeout(200), unexpected);
    await assert.rejects(add, (error) => isCaissonError(error, 'cancelled'));
    await access(done);
    assert.deepEqual(await calls(), ['a ADD', 'b DEL', 'a DEL']);
  });

  it('refuses garbage, nothing and far too much output', async () => {
    await plugin('a', 'echo all fine');
    await failAdd(['a'], 'unavailable', /a \(ADD\) printed no valid result: "all fine\\n" is not JSON/);
    await plugin('a', ':');
    await failAdd(['a'], 'unavailable', /printed no valid result/);
    await plugin('a', `echo '{"ips":[{"address":5}]}'`);
    await failAdd(['a'], 'unavailable', /printed no valid result: ips\.0\.address: /);
    await plugin('a', 'head -c 20000000 /dev/zero');
    const error = await failAdd(['a'], 'unavailable', /CNI plugin a \(ADD\)/);
    assert.ok(String(error).length < 1000);
  });

  it('names a missing plugin and where it was looked for', async () => {
    await failAdd(['gone'], 'unavailable', /CNI plugin gone is in none of \/nonexistent, /);
  });

  it('runs DEL of the other plugins although one fails, and then throws', async () => {
    await plugin('a', ':');
    await plugin('b', ':', `echo '{"code":7,"msg":"stuck"}'; exit 1`);
    await assert.rejects(delChain(runner(), attachment(['a', 'b'])), /CNI plugin b \(DEL\) failed: stuck \(code 7\)/);
    assert.deepEqual(await calls(), ['b DEL', 'a DEL']);
  });
});

describe('what plugins are told of a pod', () => {
  const request = {
    sandboxId: 'c1',
    podName: 'web-0',
    podNamespace: 'shop',
    podUid: 'u-1',
    portMappings: [],
    tapUid: 1,
  };

  it("is the arguments the kubelet's plugins expect", () => {
    const args =
      'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u-1';
    assert.equal(cniArgs(request), args);
  });

  it("cannot be extended by a pod's own name", () => {
    for (const podName of ['a;IP=10.0.0.1', 'a=b', 'a b', 'a\nb']) {
      assert.throws(
        () => cniArgs({ ...request, podName }),
        (error) => isCaissonError(error, 'invalid_argument'),
      );
    }
  });

  it('asks for addresses by the capability and by the convention, and leaves what was asked before', () => {
    const addresses = ['10.1.0.7/24', 'fd01::7/64'];
    assert.deepEqual(capabilityArgs({ ...request, addresses }, ''), { ips: addresses });
    const plugins = [{ type: 'bridge', args: { cni: { labels: ['x'] }, other: 1 } }, { type: 'portmap' }];
    const network = { name: 'n', cniVersion: '1.0.0' as const, disableCheck: false, source: '/x', plugins };
    assert.equal(withAddresses(network, []), network);
    assert.deepEqual(withAddresses(network, addresses).plugins, [
      { type: 'bridge', args: { cni: { labels: ['x'], ips: addresses }, other: 1 } },
      { type: 'portmap', args: { cni: { ips: addresses } } },
    ]);
  });

  it('has port mappings, bandwidth and ranges only where there are any', () => {
    assert.deepEqual(capabilityArgs(request, ''), {});
    const mapping = { protocol: 'tcp' as const, containerPort: 80, hostPort: 8080, hostIp: '127.0.0.1' };
    const portMappings = [mapping, { ...mapping, hostPort: 0 }];
    assert.deepEqual(
      capabilityArgs({ ...request, portMappings, bandwidth: { egressBps: 5000 } }, '10.1.0.0/24,fd01::/64'),
      {
        portMappings: [{ protocol: 'tcp', containerPort: 80, hostPort: 8080, hostIP: '127.0.0.1' }],
        bandwidth: { egressRate: 5000, egressBurst: 2147483647 },
        ipRanges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd01::/64' }]],
      },
    );
  });
});
