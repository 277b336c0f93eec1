import assert from 'node:assert/strict';
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { ProtoGrpcType } from '../../proto/generated/runtime/api.ts';
import { removeTree } from '../../src/lib/files.ts';
import { loadProto } from '../../src/lib/grpc/load.ts';
import { withCdiDevices } from '../../src/pod/cdi/index.ts';
import type { ContainerConfig } from '../../src/pod/contracts.ts';

const codec = loadProto<ProtoGrpcType>('runtime/v1/api.proto').runtime.v1.RuntimeService.service.CreateContainer;

function config(...names: string[]): ContainerConfig {
  const CDI_devices = names.map((name) => ({ name }));
  const fields = { envs: [{ key: 'OWN', value: Buffer.from('1') }], linux: { security_context: {} }, CDI_devices };
  const request = codec.requestDeserialize(codec.requestSerialize({ config: fields }));
  return (request as unknown as { config: ContainerConfig }).config;
}

const YAML = `
cdiVersion: "0.6.0"
kind: "example.com/disk"
containerEdits:
  env: [ "ALL=yes" ]
devices:
  - name: fast
    containerEdits:
      env: [ "NAME=fast=1" ]
      deviceNodes: [ { path: /dev/fast, hostPath: /dev/sdz, permissions: r }, { path: /dev/null } ]
      mounts: [ { hostPath: /opt/lib, containerPath: /usr/lib/disk, options: [ ro, nosuid ] } ]
      additionalGids: [ 44 ]
  - name: slow
    containerEdits: { env: [ "NAME=slow" ] }
`;

describe('CDI devices', () => {
  let home: string;
  let directories: string[];
  const write = (directory: number, name: string, text: string) =>
    writeFile(join(directories[directory] ?? '', name), text);

  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'caisson-cdi-'));
    directories = ['etc', 'run', 'missing'].map((name) => join(home, name));
    for (const directory of directories.slice(0, 2)) await mkdir(directory);
    await write(0, 'disk.yaml', YAML);
    await write(0, 'notes.txt', 'no specification');
  });
  after(() => removeTree(home));

  it('add what their specification says, for the whole of it once', async () => {
    const { envs, devices, mounts, linux } = await withCdiDevices(
      config('example.com/disk=fast', 'example.com/disk=slow'),
      directories,
    );
    assert.deepEqual(
      envs.map(({ key, value }) => `${key}=${value.toString()}`),
      ['OWN=1', 'ALL=yes', 'NAME=fast=1', 'NAME=slow'],
    );
    assert.deepEqual(
      devices.map(({ container_path, host_path, permissions }) => [container_path, host_path, permissions]),
      [
        ['/dev/fast', '/dev/sdz', 'r'],
        ['/dev/null', '/dev/null', 'rwm'],
      ],
    );
    assert.deepEqual(
      mounts.map(({ container_path, host_path, readonly }) => [container_path, host_path, readonly]),
      [['/usr/lib/disk', '/opt/lib', true]],
    );
    assert.deepEqual(linux?.security_context?.supplemental_groups, ['44']);
  });

  it('come from the directory with precedence', async () => {
    const devices = [{ name: 'fast', containerEdits: { env: ['NAME=other'] } }];
    await write(1, 'disk.json', JSON.stringify({ cdiVersion: '0.6.0', kind: 'example.com/disk', devices }));
    const { envs } = await withCdiDevices(config('example.com/disk=fast'), directories);
    assert.equal(String(envs.at(-1)?.value), 'other');
    assert.equal(
      String((await withCdiDevices(config('example.com/disk=slow'), directories)).envs.at(-1)?.value),
      'slow',
    );
  });

  it('without any, nothing is read', async () => {
    const asked = config();
    assert.equal(await withCdiDevices(asked, ['/dev/null/nowhere']), asked);
  });

  it('that are unknown, have hooks or come from a bad file are refused', async () => {
    await assert.rejects(withCdiDevices(config('example.com/disk=none'), directories), {
      code: 'invalid_argument',
      message: /CDI_devices: "example\.com\/disk=none"/,
    });
    const hooked = [{ name: 'h', containerEdits: { hooks: [{ hookName: 'createContainer', path: '/bin/x' }] } }];
    await write(0, 'hook.json', JSON.stringify({ cdiVersion: '0.6.0', kind: 'example.com/hook', devices: hooked }));
    await assert.rejects(withCdiDevices(config('example.com/hook=h'), directories), {
      code: 'failed_precondition',
      message: /has hooks/,
    });
    for (const bad of ['{', 'kind: x', '[]', 'cdiVersion: 1', JSON.stringify({ kind: 'a/b' })]) {
      await write(0, 'bad.yaml', bad);
      await assert.rejects(
        withCdiDevices(config('example.com/disk=fast'), directories),
        { code: 'failed_precondition', message: /bad\.yaml/ },
        bad,
      );
    }
  });
});
