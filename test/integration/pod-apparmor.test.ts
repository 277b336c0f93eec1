import assert from 'node:assert/strict';
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { ContainerConfig } from '../../proto/generated/runtime/runtime/v1/ContainerConfig.ts';
import type { LinuxContainerSecurityContext } from '../../proto/generated/runtime/runtime/v1/LinuxContainerSecurityContext.ts';
import { removeTree } from '../../src/lib/files.ts';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const FOREVER = ['sleep', '100000'];
const CURRENT = 'cat /proc/self/attr/current';

const PROFILES = `
include <tunables/global>
profile no-writes flags=(attach_disconnected) {
  include <abstractions/base>
  file,
  deny /** w,
}
profile "notes only" flags=(attach_disconnected) {
  include <abstractions/base>
  file,
  audit /** w,
}
`;

/** The security context that the kubelet sends: a profile in the field of today. */
const withProfile = (profile: LinuxContainerSecurityContext): ContainerConfig => ({
  linux: { security_context: profile },
});
const local = (name: string): ContainerConfig =>
  withProfile({ apparmor: { profile_type: 'Localhost', localhost_ref: name } });

describe('AppArmor', { skip }, () => {
  let daemon: TestDaemon;
  let pod: pods.TestPod;
  let directory: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'caisson-apparmor-'));
    await mkdir(join(directory, 'abstractions'));
    await writeFile(join(directory, 'tests'), PROFILES);
    await writeFile(join(directory, 'wrong'), 'profile wrong {\n  no such rule,\n}\n');
    await writeFile(join(directory, 'elsewhere'), 'profile outer {\n  profile inner {\n  }\n}\n');
    daemon = await startTestDaemon({ config: { apparmor: { profile_dir: directory, profiles: 'files' } } });
    pod = await pods.runPod(daemon, 'confined');
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
    await removeTree(directory);
  });

  const confinement = async (id: string): Promise<string> => {
    const { stdout, stderr } = await pods.sh(daemon, id, CURRENT);
    return `${stdout}${stderr}`.trim();
  };

  it('confines whoever says nothing by the default, its commands too, and nobody privileged', async () => {
    const cases: [string, ContainerConfig, string][] = [
      ['nothing', {}, 'caisson-default (enforce)'],
      [
        'no-new-privs',
        withProfile({ no_new_privs: true, run_as_user: { value: '1000' } }),
        'caisson-default (enforce)',
      ],
      ['default', withProfile({ apparmor: { profile_type: 'RuntimeDefault' } }), 'caisson-default (enforce)'],
      ['old-default', withProfile({ apparmor_profile: 'runtime/default' }), 'caisson-default (enforce)'],
      ['unconfined', withProfile({ apparmor: { profile_type: 'Unconfined' } }), 'unconfined'],
      ['old-unconfined', withProfile({ apparmor_profile: 'unconfined' }), 'unconfined'],
      ['privileged', withProfile({ privileged: true }), 'unconfined'],
    ];
    for (const [name, config, expected] of cases) {
      const id = await pods.createAndStart(pod, name, ['sh', '-c', `${CURRENT}; exec sleep 100000`], config);
      assert.equal(await confinement(id), expected, name);
      await daemon.cri.runtime.StopContainer({ container_id: id, timeout: '0' });
      const [first] = await pods.readLog(pod, `${name}.log`);
      assert.equal(first?.text, expected, name);
    }
  });

  it('the default refuses to mount and to write to /proc/sys and /sys, which the same rights allow without it', async () => {
    const script = `mount -t tmpfs none /tmp && echo mounted
      echo 61 >/proc/sys/vm/swappiness && echo set
      cat /proc/1/environ >/dev/null && kill -0 1 && echo own`;
    const rights = { capabilities: { add_capabilities: ['SYS_ADMIN'] }, readonly_paths: ['/proc/nothing'] };
    const outcome = async (name: string, profile_type: 'RuntimeDefault' | 'Unconfined') => {
      const config = withProfile({ ...rights, apparmor: { profile_type } });
      const id = await pods.createAndStart(pod, name, FOREVER, config);
      const { stdout, stderr } = await pods.sh(daemon, id, script);
      return { did: stdout.trim().split('\n'), said: stderr };
    };
    assert.deepEqual((await outcome('free', 'Unconfined')).did, ['mounted', 'set', 'own']);
    const { did, said } = await outcome('bound', 'RuntimeDefault');
    assert.deepEqual(did, ['own']);
    assert.match(said, /mount.*denied[\s\S]*swappiness: Permission denied/i);
  });

  it("takes a profile of the node's by its name, in either field", async () => {
    const write = ['sh', '-c', `${CURRENT}; touch /tmp/foo`];
    const cases: [string, ContainerConfig, number, string][] = [
      ['new', local('no-writes'), 1, 'no-writes (enforce)'],
      ['prefixed', local('localhost/no-writes'), 1, 'no-writes (enforce)'],
      ['old', withProfile({ apparmor_profile: 'localhost/no-writes' }), 1, 'no-writes (enforce)'],
      ['other', local('notes only'), 0, 'notes only (enforce)'],
      [
        'both',
        withProfile({ ...local('notes only').linux?.security_context, apparmor_profile: 'localhost/none' }),
        0,
        'notes only (enforce)',
      ],
    ];
    for (const [name, config, code, expected] of cases) {
      const id = await pods.createAndStart(pod, `local-${name}`, write, config);
      assert.equal((await pods.waitForState(daemon, id, 'CONTAINER_EXITED')).exit_code, code, name);
      const [first] = await pods.readLog(pod, `local-${name}.log`);
      assert.equal(first?.text, expected, name);
    }
  });

  it('makes no container with a profile that it cannot have', async () => {
    const earlier = (await daemon.cri.runtime.ListContainers({})).containers.length;
    const cases: [ContainerConfig, number, RegExp][] = [
      [local('non-existent'), 3, /apparmor: profile "non-existent" is in no file of /],
      [withProfile({ apparmor_profile: 'localhost/non-existent' }), 3, /profile "non-existent" is in no file/],
      [withProfile({ apparmor_profile: 'whatever' }), 3, /"whatever" is no kind of profile/],
      [local(''), 3, /is not the name of a profile/],
      [local('wrong'), 3, /cannot load the AppArmor profile.*syntax error/],
      [local('inner'), 9, /no AppArmor profile "inner"/],
    ];
    for (const [config, code, words] of cases)
      await assert.rejects(pods.create(pod, 'refused', FOREVER, config), (error: { code: number; message: string }) => {
        assert.match(error.message, words);
        assert.equal(error.code, code, error.message);
        return true;
      });
    assert.equal((await daemon.cri.runtime.ListContainers({})).containers.length, earlier);
  });

  it('confines root of a user namespace', async () => {
    const mapping = [{ container_id: 0, host_id: 100_000, length: 65_536 }];
    const options = withProfile({
      namespace_options: { userns_options: { mode: 'POD', uids: mapping, gids: mapping } },
    });
    const mapped = await pods.runPod(daemon, 'mapped', options);
    const id = await pods.createAndStart(mapped, 'mapped', FOREVER, options);
    assert.equal(await confinement(id), 'caisson-default (enforce)');
  });
});
