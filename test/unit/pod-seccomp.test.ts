import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { ContainerConfig } from '../../src/pod/contracts.ts';
import { askedProfile, seccompProfile } from '../../src/pod/seccomp/index.ts';
import { localProfile } from '../../src/pod/seccomp/local-profile.ts';
import type { SeccompProfile, SeccompRule } from '../../src/pod/seccomp/profile.ts';
import { runtimeDefault } from '../../src/pod/seccomp/runtime-default.ts';

type Security = NonNullable<NonNullable<ContainerConfig['linux']>['security_context']>;
const config = (security: Partial<Security>): ContainerConfig =>
  ({ linux: { security_context: { seccomp_profile_path: '', ...security } } }) as unknown as ContainerConfig;

describe('which seccomp profile a container asks for', () => {
  const cases: [string, Partial<Security>, object][] = [
    ['nothing', {}, { kind: 'unconfined' }],
    ['unconfined', { seccomp: { profile_type: 'Unconfined', localhost_ref: '' } }, { kind: 'unconfined' }],
    ['the default', { seccomp: { profile_type: 'RuntimeDefault', localhost_ref: '' } }, { kind: 'runtime-default' }],
    ['a file', { seccomp: { profile_type: 'Localhost', localhost_ref: '/p' } }, { kind: 'localhost', path: '/p' }],
    ['the default, as of old', { seccomp_profile_path: 'runtime/default' }, { kind: 'runtime-default' }],
    ['the default, as of Docker', { seccomp_profile_path: 'docker/default' }, { kind: 'runtime-default' }],
    ['a file, as of old', { seccomp_profile_path: 'localhost//p' }, { kind: 'localhost', path: '/p' }],
    [
      'the new field before the old one',
      { seccomp: { profile_type: 'Unconfined', localhost_ref: '' }, seccomp_profile_path: 'runtime/default' },
      { kind: 'unconfined' },
    ],
  ];
  for (const [name, security, expected] of cases)
    it(name, () => assert.deepEqual(askedProfile(config(security)), expected));

  it('an unknown kind is refused', () => {
    assert.throws(() => askedProfile(config({ seccomp_profile_path: 'other/x' })), { code: 'invalid_argument' });
  });

  it('a privileged container has none, whatever it asks for', async () => {
    const seccomp = { profile_type: 'Localhost', localhost_ref: '/nonexistent' } as const;
    assert.equal(await seccompProfile(config({ privileged: true, seccomp })), undefined);
  });
});

describe('the default profile', () => {
  const rulesFor = (profile: SeccompProfile, name: string): SeccompRule[] =>
    (profile.syscalls ?? []).filter(({ names }) => names.includes(name));
  const plain = runtimeDefault(['CAP_CHOWN']);

  it('lets programs do what they need and does not know the rest', () => {
    for (const name of ['read', 'execve', 'futex', 'epoll_wait', 'mmap', 'connect', 'rseq', 'statx'])
      assert.deepEqual(
        rulesFor(plain, name).map(({ action }) => action),
        ['SCMP_ACT_ALLOW'],
        name,
      );
    assert.equal(plain.defaultErrnoRet, 38, 'ENOSYS');
  });

  it('refuses what would reach the kernel or the VM', () => {
    for (const name of [
      'mount',
      'bpf',
      'kexec_load',
      'init_module',
      'keyctl',
      'io_uring_setup',
      'setns',
      'unshare',
      'reboot',
    ])
      assert.deepEqual(
        rulesFor(plain, name).map(({ action, errnoRet }) => [action, errnoRet]),
        [['SCMP_ACT_ERRNO', 1]],
        name,
      );
    assert.deepEqual(rulesFor(plain, 'clone3'), [], 'unknown, so that programs fall back to clone');
    assert.deepEqual(plain.syscalls?.[0], { names: ['socketcall'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 });
  });

  it('refuses AF_VSOCK with every set of capabilities', () => {
    for (const profile of [plain, runtimeDefault(['CAP_SYS_ADMIN', 'CAP_NET_ADMIN', 'CAP_NET_RAW'])]) {
      const rules = rulesFor(profile, 'socket');
      const ofVsock = rules.filter(({ args }) => args?.[0]?.valueTwo === 40);
      assert.deepEqual(
        ofVsock.map(({ action, errnoRet }) => [action, errnoRet]),
        [['SCMP_ACT_ERRNO', 97]],
      );
      // also with something in the half of the register that the kernel does not look at
      assert.ok(rules.every(({ args }) => args?.[0]?.op === 'SCMP_CMP_MASKED_EQ' && args[0].value === 0xffff_ffff));
      assert.ok(
        rules.some(({ action, args }) => action === 'SCMP_ACT_ALLOW' && args?.[0]?.valueTwo === 2),
        'AF_INET',
      );
    }
  });

  it('gives with a capability what it is for', () => {
    const admin = runtimeDefault(['CAP_SYS_ADMIN']);
    for (const name of ['mount', 'setns', 'clone', 'clone3', 'sethostname'])
      assert.deepEqual(
        rulesFor(admin, name).map(({ action }) => action),
        ['SCMP_ACT_ALLOW'],
        name,
      );
    assert.equal(rulesFor(admin, 'reboot')[0]?.action, 'SCMP_ACT_ERRNO');
  });

  it('has one answer only for each call that is judged by name', () => {
    for (const profile of [plain, runtimeDefault(['CAP_SYS_ADMIN', 'CAP_BPF', 'CAP_SYSLOG'])]) {
      const names = (profile.syscalls ?? []).filter(({ args }) => !args).flatMap((rule) => rule.names);
      assert.deepEqual(
        names.filter((name, at) => names.indexOf(name) !== at),
        [],
      );
    }
  });
});

describe('a profile from a file of the node', () => {
  let directory: string;
  const file = async (content: string): Promise<string> => {
    const path = join(directory, 'profile.json');
    await writeFile(path, content);
    return path;
  };
  const refused = async (content: string, why: RegExp): Promise<void> =>
    assert.rejects(localProfile(await file(content)), { code: 'invalid_argument', message: why });

  before(async () => void (directory = await mkdtemp(join(tmpdir(), 'caisson-seccomp-'))));
  after(() => rm(directory, { recursive: true }));

  it('is taken over, without what OCI does not have', async () => {
    const content = {
      defaultAction: 'SCMP_ACT_ALLOW',
      architectures: ['SCMP_ARCH_X86_64'],
      syscalls: [{ names: ['chmod'], action: 'SCMP_ACT_ERRNO', errnoRet: 13, comment: 'no', args: null, includes: {} }],
    };
    assert.deepEqual(JSON.parse(JSON.stringify(await localProfile(await file(JSON.stringify(content))))), {
      ...content,
      syscalls: [{ names: ['chmod'], action: 'SCMP_ACT_ERRNO', errnoRet: 13 }],
    });
  });

  it('that cannot be one is refused, by name', async () => {
    await refused('no', /profile\.json" is not JSON/);
    await refused('{}', /defaultAction/);
    await refused('{"defaultAction":"ALLOW"}', /defaultAction/);
    await refused('{"defaultAction":"SCMP_ACT_NOTIFY"}', /NOTIFY/);
    const docker = { names: ['x'], action: 'SCMP_ACT_ALLOW', includes: { caps: ['CAP_SYS_ADMIN'] } };
    await refused(JSON.stringify({ defaultAction: 'SCMP_ACT_ERRNO', syscalls: [docker] }), /includes/);
    await refused(' '.repeat(1024 * 1024 + 1), /larger/);
    // 2 ** 64 - 2 ** 32, which JavaScript writes as 18446744069414584000
    const args = [{ index: 0, value: 0xffff_ffff_0000_0000, op: 'SCMP_CMP_EQ' }];
    const rule = { names: ['x'], action: 'SCMP_ACT_ALLOW', args };
    await refused(JSON.stringify({ defaultAction: 'SCMP_ACT_ERRNO', syscalls: [rule] }), /args\.0\.value/);
  });

  it('that is missing, relative, a directory or a FIFO is refused at once', async () => {
    const fifo = join(directory, 'fifo');
    execFileSync('mkfifo', [fifo]);
    for (const path of [join(directory, 'missing'), 'profile.json', directory, fifo, ''])
      await assert.rejects(localProfile(path), { code: 'invalid_argument' }, path);
  });
});
