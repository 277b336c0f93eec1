import { status } from '@grpc/grpc-js';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RegistryAuth } from '../../src/image/contracts.ts';
import { CaissonError } from '../../src/lib/errors.ts';
import { collect, image, startServer } from './cri-fakes.ts';

test('ImageStatus maps every field and describes the image when asked', async () => {
  const nginx = image('1002');
  const find = (name: string) => (name === 'nginx' ? nginx : undefined);
  await using cri = await startServer({ images: { find } });
  const answer = await cri.image.ImageStatus({ image: { image: 'nginx' }, verbose: true });
  assert.deepEqual(answer.image, {
    id: nginx.id,
    repo_tags: nginx.repoTags,
    repo_digests: nginx.repoDigests,
    size: '5000000000',
    uid: { value: '1002' },
    username: '',
    spec: null,
    pinned: true,
  });
  const { config, layers }: { config: unknown; layers: unknown } = JSON.parse(answer.info['info'] ?? '');
  assert.deepEqual(config, nginx.config);
  assert.deepEqual(layers, [{ diffId: nginx.layers[0]?.diffId, sizeBytes: 12 }]);
  assert.deepEqual((await cri.image.ImageStatus({ image: { image: 'nginx' } })).info, {});
});

test('an image that is not there is an empty answer', async () => {
  await using cri = await startServer();
  assert.deepEqual(await cri.image.ImageStatus({ image: { image: 'none' } }), { image: null, info: {} });
});

test('the image user is a number or a name, without its group', async () => {
  const users = ['', '0', '1002', '1003:1004', 'www-data', 'www-data:1004', '-1', '99999999999999999999', ':5'];
  await using cri = await startServer({ images: { list: () => users.map((user) => image(user)) } });
  const { images } = await cri.image.ListImages();
  assert.deepEqual(
    images.map(({ uid, username }) => [uid?.value, username]),
    [
      [undefined, ''],
      ['0', ''],
      ['1002', ''],
      ['1003', ''],
      [undefined, 'www-data'],
      [undefined, 'www-data'],
      [undefined, '-1'],
      [undefined, '99999999999999999999'],
      [undefined, ''],
    ],
  );
});

test('ListImages and StreamImages find by name', async () => {
  const nginx = image('');
  const list = () => [nginx, image('', { id: 'sha256:other' })];
  const find = (name: string) => (name === 'nginx' ? nginx : undefined);
  await using cri = await startServer({ images: { list, find } });
  const ids = async (name: string) => {
    const filter = { image: { image: name } };
    const streamed = (await collect(cri.image.StreamImages({ filter }))).map((message) => message.images);
    const { images } = await cri.image.ListImages({ filter });
    assert.deepEqual(streamed.flat(), images);
    return images.map(({ id }) => id);
  };
  assert.deepEqual(await ids('nginx'), [nginx.id]);
  assert.deepEqual(await ids('none'), []);
  assert.deepEqual(await ids(''), [nginx.id, 'sha256:other']);
});

test('PullImage answers with the image id and hands the given credentials on', async () => {
  const seen: (RegistryAuth | undefined)[] = [];
  const pull = (_name: string, auth: RegistryAuth | undefined) => {
    seen.push(auth);
    return Promise.resolve(image(''));
  };
  await using cri = await startServer({ images: { pull } });
  const spec = { image: 'nginx' };
  const auth = { username: 'u', password: 'p', auth: 'dTpw', identity_token: 'it', registry_token: 'rt' };
  assert.equal((await cri.image.PullImage({ image: spec, auth })).image_ref, image('').id);
  await cri.image.PullImage({ image: spec, auth: { username: 'u' } });
  await cri.image.PullImage({ image: spec, auth: {} });
  await cri.image.PullImage({ image: spec });
  assert.deepEqual(seen, [
    { username: 'u', password: 'p', auth: 'dTpw', identityToken: 'it', registryToken: 'rt' },
    { username: 'u' },
    undefined,
    undefined,
  ]);
});

test('a silent registry and an untrusted image carry the words the kubelet knows, other failures keep their status', async () => {
  const failures = [
    new CaissonError('unavailable', 'registry.example does not answer', { hint: 'check its mirror' }),
    new CaissonError('untrusted', 'no signature'),
    new CaissonError('permission_denied', 'registry.example refuses the credentials'),
  ];
  const pull = () => Promise.reject(failures.shift() ?? new Error('too many calls'));
  await using cri = await startServer({ images: { pull } });
  const next = () => cri.image.PullImage({ image: { image: 'x' } });
  await assert.rejects(next, {
    code: status.UNKNOWN,
    details: 'RegistryUnavailable: registry.example does not answer (check its mirror)',
  });
  await assert.rejects(next, { code: status.UNKNOWN, details: 'SignatureValidationFailed: no signature' });
  await assert.rejects(next, { code: status.PERMISSION_DENIED });
});

test('RemoveImage removes, ImageFsInfo measures', async () => {
  const removed: string[] = [];
  const remove = async (name: string) => void removed.push(name);
  const containerFs = () => Promise.resolve({ mountpoint: '/pods', usedBytes: 1, inodesUsed: 2 });
  await using cri = await startServer({ images: { remove }, containerFs });
  await cri.image.RemoveImage({ image: { image: 'nginx' } });
  assert.deepEqual(removed, ['nginx']);

  const before = BigInt(Date.now()) * 1_000_000n;
  const { image_filesystems, container_filesystems } = await cri.image.ImageFsInfo();
  const { timestamp = '0', ...usage } = image_filesystems[0] ?? {};
  assert.ok(BigInt(timestamp) >= before);
  assert.deepEqual(usage, {
    fs_id: { mountpoint: '/var/lib/caisson/images' },
    used_bytes: { value: '5000000000' },
    inodes_used: { value: '17' },
  });
  assert.deepEqual(container_filesystems[0]?.fs_id, { mountpoint: '/pods' });
});

test('ImageFsInfo names no container file system that nobody measures', async () => {
  await using cri = await startServer();
  assert.deepEqual((await cri.image.ImageFsInfo()).container_filesystems, []);
});
