import assert from 'node:assert/strict';
import { mkdir, mkdtemp, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { removeTree } from '../../src/lib/files.ts';
import { appArmorProfile, askedProfile, RUNTIME_DEFAULT } from '../../src/pod/apparmor/index.ts';
import type { ContainerConfig } from '../../src/pod/contracts.ts';

type Security = NonNullable<NonNullable<ContainerConfig['linux']>['security_context']>;
const config = (security: Partial<Security>): ContainerConfig =>
  ({ linux: { security_context: { apparmor_profile: '', ...security } } }) as unknown as ContainerConfig;

const runtimeDefault = { profile_type: 'RuntimeDefault', localhost_ref: '' } as const;
const unconfined = { profile_type: 'Unconfined', localhost_ref: '' } as const;
const local = (name: string) => ({ profile_type: 'Localhost', localhost_ref: name }) as const;

describe('which AppArmor profile a container asks for', () => {
  const cases: [string, Partial<Security>, object][] = [
    ['nothing', {}, { kind: 'runtime-default' }],
    ['nothing, being privileged', { privileged: true }, { kind: 'unconfined' }],
    ['the default', { apparmor: runtimeDefault }, { kind: 'runtime-default' }],
    ['the default, being privileged', { apparmor: runtimeDefault, privileged: true }, { kind: 'unconfined' }],
    ['unconfined', { apparmor: unconfined }, { kind: 'unconfined' }],
    ['one of the node', { apparmor: local('a') }, { kind: 'localhost', name: 'a' }],
    ['one of the node, being privileged', { apparmor: local('a'), privileged: true }, { kind: 'localhost', name: 'a' }],
    ['one with a prefix', { apparmor: local('localhost/a') }, { kind: 'localhost', name: 'a' }],
    ['the default, as of old', { apparmor_profile: 'runtime/default' }, { kind: 'runtime-default' }],
    ['unconfined, as of old', { apparmor_profile: 'unconfined' }, { kind: 'unconfined' }],
    ['one of the node, as of old', { apparmor_profile: 'localhost/a' }, { kind: 'localhost', name: 'a' }],
    ['both', { apparmor: unconfined, apparmor_profile: 'localhost/a' }, { kind: 'unconfined' }],
  ];
  for (const [name, security, expected] of cases)
    it(name, () => assert.deepEqual(askedProfile(config(security)), expected));

  it('an unknown kind is refused', () => {
    assert.throws(() => askedProfile(config({ apparmor_profile: 'other/x' })), { code: 'invalid_argument' });
  });
});

describe("an AppArmor profile of the node's", () => {
  let dir: string;
  const here = (name: string): string => join(dir, name);
  const profile = (name: string, securityFs: string, profiles: 'auto' | 'kernel' | 'files' = 'auto') =>
    appArmorProfile(config({ apparmor: local(name) }), { profile_dir: here('profiles'), profiles }, here(securityFs));

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'caisson-apparmor-'));
    await mkdir(here('profiles/abstractions'), { recursive: true });
    const files = {
      'a.web': 'include <tunables/global>\nprofile web flags=(complain) {\n}\n',
      'b.web': '# profile late {\nprofile web {\n}\n',
      'c.paths': '/usr/bin/tool {\n}\n  profile "with space" /x/** {\n}\n',
      'd.dpkg-old': 'profile old {\n}\n',
      'abstractions/e': 'profile hidden {\n}\n',
    };
    for (const [file, text] of Object.entries(files)) await writeFile(here(`profiles/${file}`), text);
    // as the kernel shows them
    await mkdir(here('fs/policy/raw_data/7'), { recursive: true });
    await writeFile(here('fs/policy/raw_data/7/raw_data'), 'compiled');
    for (const [directory, name] of [
      ['web.3', 'web'],
      ['usr.bin.tool.4', '/usr/bin/tool'],
      ['silent.5', 'silent'],
    ] as const) {
      await mkdir(here(`fs/policy/profiles/${directory}`), { recursive: true });
      await writeFile(here(`fs/policy/profiles/${directory}/name`), `${name}\n`);
      if (name !== 'silent')
        await symlink('../../raw_data/7/raw_data', here(`fs/policy/profiles/${directory}/raw_data`));
    }
  });
  after(() => removeTree(dir));

  it('is what its kernel has loaded, by its whole name', async () => {
    for (const name of ['web', '/usr/bin/tool'])
      assert.deepEqual(await profile(name, 'fs'), {
        name,
        policy: { kind: 'compiled', data: Buffer.from('compiled') },
      });
    for (const name of ['we', 'web.3', 'with space', '../web.3'])
      await assert.rejects(profile(name, 'fs'), {
        code: 'invalid_argument',
        message: /is not loaded in the node's kernel/,
      });
    await assert.rejects(profile('silent', 'fs'), { code: 'failed_precondition', message: /export_binary/ });
  });

  it('is the first file that defines it, where the kernel has no AppArmor', async () => {
    const text = async (name: string) => (await profile(name, 'none'))?.policy?.data.toString();
    assert.match((await text('web')) ?? '', /complain/);
    assert.match((await text('/usr/bin/tool')) ?? '', /tool/);
    assert.match((await text('with space')) ?? '', /with space/);
    for (const name of ['late', 'old', 'hidden', 'profile', '/x/**', 'none'])
      await assert.rejects(profile(name, 'none'), { code: 'invalid_argument', message: /is in no file of/ });
    for (const name of ['', 'a\nb', 'a\0'])
      await assert.rejects(profile(name, 'none'), {
        code: 'invalid_argument',
        message: /is not the name of a profile/,
      });
  });

  it('is looked for where the configuration says', async () => {
    assert.equal((await profile('web', 'fs', 'files'))?.policy?.kind, 'source');
    assert.equal((await profile('web', 'fs', 'kernel'))?.policy?.kind, 'compiled');
    await assert.rejects(profile('web', 'none', 'kernel'), { code: 'invalid_argument', message: /is not loaded/ });
  });

  it('is not looked for when the default is asked for, which every guest has', async () => {
    const asked = await appArmorProfile(config({}), { profile_dir: here('none'), profiles: 'auto' }, here('none'));
    assert.deepEqual(asked, { name: RUNTIME_DEFAULT, policy: undefined });
    assert.equal(
      await appArmorProfile(config({ privileged: true }), { profile_dir: '/none', profiles: 'auto' }, '/none'),
      undefined,
    );
  });
});
