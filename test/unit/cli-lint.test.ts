/** Proves the import rules of .oxlintrc.json: each with an import that breaks it and one that keeps it. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';

const repository = resolve(import.meta.dirname, '../..');
const oxlint = join(repository, 'node_modules/oxlint/bin/oxlint');
/** apart from its colon, so that nobody takes the fixture below for our own code */
const ANYTHING = 'any';

/** file, import, what the message says; without a message the import is right */
const cases: readonly (readonly [string, string, RegExp?])[] = [
  ['src/network/a.ts', '../vm/index.ts', /another port's contracts/],
  ['src/network/cni/a.ts', '../../image/record.ts', /another port's contracts/],
  ['src/vm/a.ts', '../storage/base.ts', /another port's contracts/],
  ['src/agent/a.ts', '../vm/index.ts', /another port's contracts/],
  ['src/image/a.ts', '../state/store.ts', /another port's contracts/],
  ['src/state/a.ts', '../network/index.ts', /another port's contracts/],
  ['src/storage/a.ts', '../pod/contracts.ts', /called from above/],
  ['src/vm/b.ts', '../cri/errors.ts', /called from above/],
  ['src/network/b.ts', '../config/index.ts', /handed in/],
  ['src/image/b.ts', '../state/contracts.ts'],
  ['src/vm/qemu/a.ts', '../contracts.ts'],
  ['src/vm/c.ts', './qemu/qmp.ts'],
  ['test/unit/vm-a.test.ts', '../../src/vm/qemu/qmp.ts'],
  ['src/vm/d.ts', '../lib/exec.ts'],

  ['src/pod/a.ts', '../vm/index.ts', /pod imports the ports' contracts/],
  ['src/pod/b.ts', '../cri/errors.ts', /called by the edges/],
  ['src/pod/c.ts', '@grpc/grpc-js', /gRPC is known/],
  ['src/pod/d.ts', '../agent/contracts.ts'],
  ['src/pod/e.ts', '../../proto/generated/agent/agent/v1/Exec.ts'],

  ['src/cri/a.ts', '../pod/index.ts', /through contracts/],
  ['src/cri/b.ts', '../vm/contracts.ts', /never what is below/],
  ['src/cri/c.ts', '@grpc/grpc-js'],
  ['src/cri/d.ts', '../pod/contracts.ts'],
  ['src/cri/e.ts', '../streaming/tokens.ts', /through contracts/],
  ['src/cri/f.ts', '../streaming/contracts.ts'],
  ['src/streaming/a.ts', '../agent/contracts.ts', /never what is below/],
  ['src/streaming/b.ts', '@grpc/grpc-js', /gRPC is known/],
  ['src/ssh/a.ts', '../storage/index.ts', /never what is below/],

  ['src/lib/a.ts', '../config/schema.ts', /lib imports nothing/],
  ['src/lib/b.ts', '@grpc/grpc-js', /gRPC is known/],
  ['src/lib/c.ts', 'execa'],
  ['src/lib/grpc/a.ts', '@grpc/grpc-js'],
  ['src/lib/grpc/b.ts', '../../vm/contracts.ts', /lib imports nothing/],
  ['src/config/a.ts', '../vm/contracts.ts', /lib only/],
  ['src/telemetry/a.ts', '../pod/contracts.ts', /lib only/],

  ['src/network/c.ts', '@grpc/grpc-js', /gRPC is known/],
  ['src/agent/b.ts', '@grpc/grpc-js'],
  ['src/cli/a.ts', '@grpc/grpc-js'],
  ['src/cli/b.ts', '../vm/qemu/qmp.ts', /inside src\/vm/],
  ['src/cli/c.ts', '../vm/index.ts'],
  ['src/vm/e.ts', 'node:child_process', /started by src\/lib/],
  ['src/cli/d.ts', 'execa', /started by src\/lib/],
  ['guest-agent/src/a.ts', 'node:child_process'],
  ['test/b.ts', 'node:child_process'],
];

interface Diagnostic {
  readonly code: string;
  readonly help?: string;
  readonly filename: string;
}

let directory: string;
let byFile: Map<string, Diagnostic[]>;

/** One run over all fixtures; without type information, which the import rules do not need. */
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'caisson-lint-'));
  await cp(join(repository, '.oxlintrc.json'), join(directory, '.oxlintrc.json'));
  for (const [file, specifier] of cases)
    await write(file, `import { x } from '${specifier}';\nexport const y = [x];\n`);
  await write('src/network/type.ts', "import type { Config } from '../config/schema.ts';\nexport type C = Config[];\n");
  await write('src/network/dynamic.ts', "export const later = () => import('../vm/index.ts');\n");
  await write('src/network/again.ts', "export { x } from '../vm/index.ts';\n");
  await write('src/vm/console.ts', "export const say = () => console.log('x');\n");
  await write('src/vm/any.ts', `export const id = (x: ${ANYTHING}) => x;\n`);
  await write('src/cli/output.ts', "export const say = () => console.log('x');\n");
  byFile = Map.groupBy(await lint(), ({ filename }) => filename);
});
after(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function write(file: string, text: string): Promise<void> {
  await mkdir(dirname(join(directory, file)), { recursive: true });
  await writeFile(join(directory, file), text);
}

async function lint(): Promise<Diagnostic[]> {
  const { promise, resolve: done } = Promise.withResolvers<string>();
  // it exits with 1 when it finds something
  execFile(process.execPath, [oxlint, '--format', 'json'], { cwd: directory }, (_error, stdout) => done(stdout));
  return (JSON.parse(await promise) as { diagnostics: Diagnostic[] }).diagnostics;
}

function found(file: string, rule: string): Diagnostic | undefined {
  return byFile.get(file)?.find(({ code }) => code.includes(rule));
}

describe('import rules', () => {
  for (const [file, specifier, message] of cases) {
    const restriction = (): Diagnostic | undefined => found(file, 'no-restricted-imports');
    if (message) it(`${file} must not import ${specifier}`, () => assert.match(restriction()?.help ?? '', message));
    else it(`${file} may import ${specifier}`, () => assert.equal(restriction(), undefined));
  }

  it('let ports import the type of the configuration', () => {
    assert.equal(found('src/network/type.ts', 'no-restricted-imports'), undefined);
  });

  for (const file of ['src/network/dynamic.ts', 'src/network/again.ts']) {
    it(`see other ways to import, in ${file}`, () => assert.ok(found(file, 'no-restricted-imports')));
  }
});

describe('other rules', () => {
  it('forbid console outside src/cli/output.ts', () => {
    assert.ok(found('src/vm/console.ts', 'no-console'));
    assert.equal(found('src/cli/output.ts', 'no-console'), undefined);
  });

  it('forbid any', () => assert.ok(found('src/vm/any.ts', 'no-explicit-any')));
});
