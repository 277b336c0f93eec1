import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { parse } from 'smol-toml';
import { load, loadWithSources } from '../../src/config/index.ts';
import { configSchema } from '../../src/config/schema.ts';
import { defaultTemplate, effectiveToml } from '../../src/config/template.ts';
import { CaissonError } from '../../src/lib/errors.ts';

let directory: string;
let main: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'caisson-config-'));
  main = join(directory, 'config.toml');
  await mkdir(join(directory, 'config.d'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function dropIn(name: string, text: string): Promise<string> {
  const path = join(directory, 'config.d', name);
  await writeFile(path, text);
  return path;
}

async function failure(): Promise<CaissonError> {
  const error: unknown = await load(main).then(
    () => assert.fail('it was accepted'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof CaissonError, String(error));
  return error;
}

describe('load', () => {
  it('has a default for everything', async () => {
    await writeFile(main, '');
    assert.deepEqual(await load(main), configSchema.parse({}));
  });

  it('merges drop-ins in lexical order: tables key by key, arrays whole', async () => {
    await writeFile(main, '[vm]\nvcpus = 2\nmemory_mib = 512\n[network]\nbin_dirs = ["/a", "/b"]\n');
    await dropIn('20-b.toml', '[vm]\nvcpus = 4\n');
    await dropIn('10-a.toml', '[vm]\nvcpus = 3\nboot_timeout_s = 7\n[network]\nbin_dirs = ["/c"]\n');
    await dropIn('ignored.toml.bak', 'nonsense');
    await dropIn('.hidden.toml', 'nonsense');
    const { config, sources } = await loadWithSources(main);
    assert.equal(config.vm.vcpus, 4);
    assert.equal(config.vm.memory_mib, 512);
    assert.equal(config.vm.boot_timeout_s, 7);
    assert.deepEqual(config.network.bin_dirs, ['/c']);
    assert.deepEqual(
      sources.map((source) => source.slice(directory.length)),
      ['/config.toml', '/config.d/10-a.toml', '/config.d/20-b.toml'],
    );
  });

  it('lets the command line win', async () => {
    await writeFile(main, 'root = "/a"\nsocket = "/s"\n[log]\nlevel = "warn"\n');
    const config = await load(main, { root: '/b', logLevel: 'debug' });
    assert.equal(config.root, '/b');
    assert.equal(config.socket, '/s');
    assert.equal(config.log.level, 'debug');
    assert.equal(config.vm.guest_image, '/var/lib/caisson/guest');
  });

  it('puts the socket into the state directory unless it is configured', async () => {
    await writeFile(main, '');
    assert.equal((await load(main, { state: '/tmp/x' })).socket, '/tmp/x/caisson.sock');
    assert.equal((await load(main, { state: '/tmp/x', socket: '/tmp/s' })).socket, '/tmp/s');
  });

  it('needs a file that was named, and not the default one', async () => {
    await rm(main, { force: true });
    assert.match((await failure()).message, /cannot read .*config\.toml: ENOENT/);
  });
});

describe('errors', () => {
  const unknown: readonly [string, RegExp][] = [
    ['[vm]\nvcpu = 2', /unknown key vm\.vcpu; did you mean vm\.vcpus\?/],
    ['guest_image = "/x"', /unknown key guest_image; did you mean vm\.guest_image\?/],
    ['[netwrok]\nconf_dir = "/x"', /unknown key netwrok; did you mean network\?/],
    [
      '[[image.registry]]\nprefix = "x"\nmirrors = []',
      /unknown key image\.registry\[0\]\.mirrors; .* image\.registry\[0\]\.mirror\?/,
    ],
    ['completely_different = 1', /unknown key completely_different$/],
    ['__proto__ = 1', /unknown key __proto__$/],
  ];
  for (const [text, message] of unknown) {
    it(`names the file and the nearest key of ${JSON.stringify(text)}`, async () => {
      await writeFile(main, '');
      const file = await dropIn('50-x.toml', text);
      const error = await failure();
      assert.ok(error.message.startsWith(`${file}: `), error.message);
      assert.match(error.message, message);
    });
  }

  const wrong: readonly [string, RegExp][] = [
    ['[vm]\nvcpus = "two"', /: vm\.vcpus: expected number, received string$/],
    ['[vm]\nvcpus = 0', /: vm\.vcpus: Too small: expected number to be >=1$/],
    ['[vm]\nvcpus = 1.5', /: vm\.vcpus: expected int, received number$/],
    ['root = "var"', /: root: must be an absolute path$/],
    ['vm = 3', /: vm: expected object, received number$/],
    ['version = 2', /: version: expected 1$/],
    ['[vm]\naccelerator = "xen"', /: vm\.accelerator: expected one of auto, kvm, tcg$/],
    ['[[image.registry]]\nblocked = true', /: image\.registry\[0\]\.prefix: is missing$/],
  ];
  for (const [text, message] of wrong) {
    it(`names file and key of ${JSON.stringify(text)}`, async () => {
      await writeFile(main, '[vm]\nmemory_mib = 300');
      const file = await dropIn('50-x.toml', text);
      const error = await failure();
      assert.ok(error.message.startsWith(`${file}: `), error.message);
      assert.match(error.message, message);
    });
  }

  it('names everything that is wrong, each with its own file', async () => {
    await writeFile(main, 'rot = "/a"\n[vm]\nvcpus = "x"\n');
    const file = await dropIn('50-x.toml', '[vm]\nqem = 1\n');
    const lines = (await failure()).message.split('\n').toSorted();
    assert.deepEqual(
      lines,
      [
        `${file}: unknown key vm.qem; did you mean vm.qemu?`,
        `${main}: unknown key rot; did you mean root?`,
        `${main}: vm.vcpus: expected number, received string`,
      ].toSorted(),
    );
  });

  it('names line and column of a syntax error', async () => {
    await writeFile(main, 'root = "/a"\nvcpus = = 2\n');
    assert.match((await failure()).message, new RegExp(`^${main}:2:\\d+: `));
  });

  it('blames the command line for its own values', async () => {
    await writeFile(main, '');
    await assert.rejects(
      load(main, { logLevel: 'loud' }),
      /^CaissonError: command line: log\.level: expected one of trace,/,
    );
  });
});

describe('the printed files', () => {
  it('show every key with its meaning and its default', () => {
    const template = defaultTemplate();
    assert.deepEqual(configSchema.parse(parse(template)), configSchema.parse({}));
    const [settings = ''] = template.split('#[[');
    const uncommented = settings.replaceAll(/^#(?=[a-z_])/gm, '');
    assert.deepEqual(configSchema.parse(parse(uncommented)), configSchema.parse({}));
    assert.match(template, /# of a pod without limits; limits add more\n#vcpus = 1\n/);
    assert.match(template, /\(auto, kvm, tcg\)\n#accelerator = "auto"/);
    const everything = parse(template.replaceAll(/^#(?=[a-z_[])/gm, ''));
    assert.equal(configSchema.parse(everything).image.registry[0]?.mirror.length, 1);
  });

  it('show what is in effect and where it comes from', () => {
    const config = configSchema.parse({ vm: { vcpus: 3 } });
    const text = effectiveToml(config, ['/etc/x.toml']);
    assert.match(text, /^# from: \/etc\/x\.toml\n/);
    assert.deepEqual(configSchema.parse(parse(text)), config);
  });
});
