/** The parts of bin/setup that a machine which is already set up never reaches, against fixtures. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { promisify } from 'node:util';

const repository = resolve(import.meta.dirname, '../..');
const PARTS = ['common', 'npm', 'apt', 'apt-sources', 'host'];
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'caisson-setup-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** Runs a line of bash with the functions of bin/setup.d; what it prints, errors included. */
async function bash(line: string, ...args: string[]): Promise<string> {
  const sources = PARTS.map((part) => `source ${repository}/bin/setup.d/${part}.sh`).join('\n');
  const script = `set -euo pipefail\nrepo=${repository}\n${sources}\n${line} 2>&1`;
  return (await promisify(execFile)('bash', ['-c', script, 'bash', ...args], { cwd: repository })).stdout;
}

async function file(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(directory, path)), { recursive: true });
  await writeFile(join(directory, path), text);
}

const DEB822 = `# what the installer wrote
Types: deb
# a comment between fields
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
 non-free-firmware
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
`;

describe("the host's Debian archive", () => {
  it('is found in deb822 files', async () => {
    await file('etc/apt/sources.list.d/debian.sources', DEB822);
    const expected = 'http://mirror.example/debian\nbookworm\n/usr/share/keyrings/debian-archive-keyring.gpg\n';
    assert.equal(await bash('debian_archive "$1"', directory), expected);
  });

  it('is found in one-line files', async () => {
    const lines = [
      '# deb http://commented.example/debian trixie main',
      'deb-src http://source.example/debian trixie main',
      'deb http://mirror.example/debian-security trixie-security main',
      'deb [arch=amd64 signed-by=/k/debian-archive.gpg] http://mirror.example/debian/ trixie main contrib # ours',
    ];
    await file('etc/apt/sources.list', `${lines.join('\n')}\n`);
    const expected = 'http://mirror.example/debian/\ntrixie\n/k/debian-archive.gpg\n';
    assert.equal(await bash('debian_archive "$1"', directory), expected);
  });

  it("is not somebody else's archive of the same suite and component, whatever comes first", async () => {
    await file('etc/apt/sources.list.d/a.list', 'deb [signed-by=/k/vendor.gpg] https://vendor.example bookworm main\n');
    await file('etc/apt/sources.list.d/b.list', 'deb https://vendor.example/linux/debian bookworm stable\n');
    await file('etc/apt/sources.list.d/caisson.sources', DEB822.replaceAll('mirror.example', 'stale.example'));
    await file('etc/apt/sources.list.d/z.list', 'deb http://mirror.example/debian bookworm main\n');
    assert.equal(await bash('debian_archive "$1"', directory), 'http://mirror.example/debian\nbookworm\n\n');
  });

  it('may be a list of mirrors, or carry its key with it', async () => {
    const key = 'Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----\n';
    const uri = 'mirror+file:///etc/apt/mirrors/debian.list';
    await file(
      'etc/apt/sources.list.d/debian.sources',
      `Types: deb deb-src\nURIs: ${uri}\nSuites: trixie\nComponents: main\n${key}`,
    );
    const out = await bash('debian_archive "$1"', directory);
    assert.equal(out, `${uri}\ntrixie\n${key.slice('Signed-By:'.length)}`);
  });

  it('may be disabled or missing', async () => {
    await file('etc/apt/sources.list.d/debian.sources', `Enabled: no\n${DEB822.slice(DEB822.indexOf('Types'))}`);
    assert.equal(await bash('debian_archive "$1" || echo none', directory), 'none\n');
  });
});

describe('what is added to it', () => {
  const suites = {
    bookworm: 'trixie sid',
    oldstable: 'trixie sid',
    trixie: 'sid',
    stable: 'sid',
    forky: 'sid',
    sid: '',
  };
  for (const [host, extra] of Object.entries(suites)) {
    it(`is ${extra || 'nothing'} on ${host}`, async () =>
      assert.equal(await bash(`extra_suites ${host}`), `${extra}\n`));
  }

  it('names the same mirror and key, and never wins by itself', async () => {
    const sources = await bash("sources_text http://mirror.example/debian 'trixie sid' /k/debian.gpg");
    assert.match(
      sources,
      /^URIs: http:\/\/mirror\.example\/debian\nSuites: trixie sid\nComponents: main\nSigned-By: \/k\/debian\.gpg$/m,
    );
    const pins = await bash("pins_text 'trixie sid'");
    assert.match(pins, /release n=trixie\nPin-Priority: 100\n\n.*\nPin: release n=sid\nPin-Priority: 50\n/);
  });
});

describe('packages', () => {
  it('are missing when absent or too old', async (t) => {
    const hasDpkg = await bash('command -v dpkg-query || true');
    if (hasDpkg === '') return t.skip('needs dpkg');
    const table = 'bash\ncoreutils 999\nno-such-package\ndpkg 1.0';
    assert.equal(await bash('missing_packages "$1"', table), 'coreutils\nno-such-package\n');
  });

  it('are listed briefly', async () => {
    assert.equal(await bash('words a b'), 'a b\n');
    assert.equal(await bash('words a b c d e'), 'a b c ... (5 packages)\n');
  });
});

describe('the rest', () => {
  it('writes a CNI configuration of the shape that plugins read, and only where there is none', async () => {
    const config = JSON.parse(await bash('cni_text 10.88.0.0/16')) as { name: string; plugins: { type: string }[] };
    assert.deepEqual(
      config.plugins.map(({ type }) => type),
      ['bridge', 'portmap'],
    );
    assert.equal(await bash('has_cni_config "$1" || echo none', directory), 'none\n');
    await file('05-x.conf', '{}');
    assert.equal(await bash('has_cni_config "$1" && echo some', directory), 'some\n');
  });

  it('says what failed and how to mend it', async () => {
    const out = await bash("{ (die 'it broke' 'mend it so') || true; }");
    assert.equal(out, 'setup: error: it broke\n       mend it so\n');
  });

  it('names no registry and no mirror', async () => {
    for (const part of ['setup', ...PARTS.map((name) => `setup.d/${name}.sh`)]) {
      assert.doesNotMatch(await readFile(join(repository, 'bin', part), 'utf8'), /https?:\/\//, part);
    }
  });
});
