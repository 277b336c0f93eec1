/** Our transcription of the CRI contract against the one that Debian ships with golang-k8s-cri-api-dev. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import protobuf from 'protobufjs';
import { CaissonError, describeError } from '../../src/lib/errors.ts';
import { run } from '../../src/lib/exec.ts';
import { removeTree } from '../../src/lib/files.ts';
import { protoPath } from '../../src/lib/grpc/load.ts';

const PACKAGE = 'golang-k8s-cri-api-dev';
const PROTO_IN_PACKAGE = 'usr/share/gocode/src/k8s.io/cri-api/pkg/apis/runtime/v1/api.proto';
const HOW_TO_GET_IT =
  `${PACKAGE} is in Debian unstable only: give apt a source for the suite sid with a low pin priority, ` +
  `run apt-get update, and check with: apt-cache policy ${PACKAGE}`;

let debian: { readonly version: string; readonly proto: string };

before(async () => {
  debian = await downloadContract();
});

test('the Debian package is of the contract that we transcribed, 1.36', () => {
  const hint = 'a new contract: compare it with proto/runtime/v1/api.proto by hand, then change this test';
  assert.match(debian.version, /^0\.36\./, `${PACKAGE} is version ${debian.version} (${hint})`);
});

test('packages, services, messages, fields and enums are the same', async () => {
  const ours = describeContract(await readFile(protoPath('runtime/v1/api.proto'), 'utf8'));
  const theirs = describeContract(debian.proto);
  const missing = theirs.filter((line) => !ours.includes(line));
  const surplus = ours.filter((line) => !theirs.includes(line));
  assert.deepEqual({ missing, surplus }, { missing: [], surplus: [] });
  assert.deepEqual(ours, theirs);
});

test('the comparison sees every kind of difference', () => {
  const original = `syntax = "proto3"; package p; enum E { A = 0; B = 1; }
    message M { string s = 1; map<string, E> m = 2; }
    service S { rpc Call(M) returns (M) {} }`;
  const changes: [string, string][] = [
    ['package p', 'package q'],
    ['B = 1', 'B = 2'],
    ['B = 1', 'C = 1'],
    ['string s = 1', 'string s = 3'],
    ['string s', 'bytes s'],
    ['string s', 'repeated string s'],
    ['string s', 'string t'],
    ['map<string, E> m', 'map<string, M> m'],
    ['map<string, E> m', 'E m'],
    ['rpc Call(M) returns (M)', 'rpc Call(M) returns (stream M)'],
    ['rpc Call(', 'rpc Calls('],
    ['service S', 'service T'],
  ];
  for (const [from, to] of changes) {
    const changed = original.replace(from, to);
    assert.notDeepEqual(describeContract(changed), describeContract(original), `${from} -> ${to}`);
  }
});

/** Downloads the package without installing it. Throws with what to do when apt does not know it. */
async function downloadContract(): Promise<typeof debian> {
  const directory = await mkdtemp(join(tmpdir(), 'caisson-cri-api-'));
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => removeTree(directory));
  try {
    await run('apt-get', ['download', '-t', 'sid', PACKAGE], { cwd: directory, timeoutMs: 120_000 });
  } catch (error) {
    // the test runner prints the message only, so what to do is part of it
    const message = `apt cannot download ${PACKAGE}: ${describeError(error)}; ${HOW_TO_GET_IT}`;
    throw new CaissonError('failed_precondition', message, { cause: error });
  }
  const [archive] = (await readdir(directory)).filter((name) => name.endsWith('.deb'));
  assert.ok(archive, `apt-get download left no .deb: ${HOW_TO_GET_IT}`);
  const { stdout: version } = await run('dpkg-deb', ['-f', archive, 'Version'], { cwd: directory });
  await run('dpkg-deb', ['-x', archive, 'content'], { cwd: directory });
  const proto = await readFile(join(directory, 'content', PROTO_IN_PACKAGE), 'utf8');
  return { version: version.trim(), proto };
}

/** One sorted line a service, method, message, field, enum and enum value, with full names. */
function describeContract(source: string): string[] {
  const { root } = protobuf.parse(source, { keepCase: true });
  root.resolveAll();
  return describe(root).toSorted();
}

function describe(object: protobuf.ReflectionObject): string[] {
  const name = object.fullName;
  if (object instanceof protobuf.Enum) {
    return [`enum ${name}`, ...Object.entries(object.values).map(([value, at]) => `value ${name}.${value} = ${at}`)];
  }
  if (object instanceof protobuf.Type) {
    return [`message ${name}`, ...object.fieldsArray.map(describeField), ...object.nestedArray.flatMap(describe)];
  }
  if (object instanceof protobuf.Service) return [`service ${name}`, ...object.methodsArray.map(describeMethod)];
  if (object instanceof protobuf.Namespace) return [`package ${name}`, ...object.nestedArray.flatMap(describe)];
  throw new Error(`unexpected ${object.constructor.name} ${name}`);
}

function describeField(field: protobuf.Field): string {
  const type = field.resolvedType?.fullName ?? field.type;
  const shape = field instanceof protobuf.MapField ? `map<${field.keyType}, ${type}>` : type;
  const oneof = field.partOf ? ` in oneof ${field.partOf.name}` : '';
  return `field ${field.fullName}: ${field.repeated ? 'repeated ' : ''}${shape} = ${field.id}${oneof}`;
}

function describeMethod(method: protobuf.Method): string {
  const stream = (is: boolean | undefined): string => (is ? 'stream ' : '');
  const request = `${stream(method.requestStream)}${method.resolvedRequestType?.fullName}`;
  const response = `${stream(method.responseStream)}${method.resolvedResponseType?.fullName}`;
  return `rpc ${method.fullName}(${request}) returns (${response})`;
}
