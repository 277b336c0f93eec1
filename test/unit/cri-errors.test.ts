import { status, type ServiceError } from '@grpc/grpc-js';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ProtoGrpcType } from '../../proto/generated/runtime/api.ts';
import { CaissonError, type ErrorCode } from '../../src/lib/errors.ts';
import { loadProto } from '../../src/lib/grpc/load.ts';
import type { CriConnection } from '../../src/lib/grpc/cri-client.ts';
import { collect, startServer } from './cri-fakes.ts';

const named = { name: 'n', namespace: 's', uid: 'u' };
const container = { metadata: { name: 'c' }, image: { image: 'i' } };

/** Request, sentence. */
const malformed: [(cri: CriConnection) => Promise<unknown>, string][] = [
  [({ runtime }) => runtime.RunPodSandbox(), 'RunPodSandbox: config is missing'],
  [({ runtime }) => runtime.RunPodSandbox({ config: {} }), 'RunPodSandbox: config.metadata is missing'],
  ...(['name', 'namespace', 'uid'] as const).map((field): (typeof malformed)[number] => [
    ({ runtime }) => runtime.RunPodSandbox({ config: { metadata: { ...named, [field]: '' } } }),
    `RunPodSandbox: config.metadata.${field} is empty`,
  ]),
  [
    ({ runtime }) => runtime.RunPodSandbox({ config: { metadata: named }, runtime_handler: 'runc' }),
    'RunPodSandbox: runtime_handler "runc" is none of "", "caisson", "caisson-dense"',
  ],
  [({ runtime }) => runtime.StopPodSandbox(), 'StopPodSandbox: pod_sandbox_id is empty'],
  [({ runtime }) => runtime.RemovePodSandbox(), 'RemovePodSandbox: pod_sandbox_id is empty'],
  [({ runtime }) => runtime.PodSandboxStatus(), 'PodSandboxStatus: pod_sandbox_id is empty'],
  [
    ({ runtime }) => runtime.ListPodSandbox({ filter: { state: { state: 9 as 0 } } }),
    'ListPodSandbox: filter.state.state has no value 9',
  ],
  [
    ({ runtime }) => collect(runtime.StreamPodSandboxes({ filter: { state: { state: 9 as 0 } } })),
    'StreamPodSandboxes: filter.state.state has no value 9',
  ],
  [({ runtime }) => runtime.CreateContainer(), 'CreateContainer: pod_sandbox_id is empty'],
  [({ runtime }) => runtime.CreateContainer({ pod_sandbox_id: 'p' }), 'CreateContainer: config is missing'],
  [
    ({ runtime }) => runtime.CreateContainer({ pod_sandbox_id: 'p', config: {} }),
    'CreateContainer: config.metadata is missing',
  ],
  [
    ({ runtime }) => runtime.CreateContainer({ pod_sandbox_id: 'p', config: { ...container, metadata: {} } }),
    'CreateContainer: config.metadata.name is empty',
  ],
  [
    ({ runtime }) => runtime.CreateContainer({ pod_sandbox_id: 'p', config: { ...container, image: null } }),
    'CreateContainer: config.image is missing',
  ],
  [
    ({ runtime }) => runtime.CreateContainer({ pod_sandbox_id: 'p', config: { ...container, image: {} } }),
    'CreateContainer: config.image.image is empty',
  ],
  [({ runtime }) => runtime.StartContainer(), 'StartContainer: container_id is empty'],
  [({ runtime }) => runtime.StopContainer(), 'StopContainer: container_id is empty'],
  [
    ({ runtime }) => runtime.StopContainer({ container_id: 'c', timeout: -1 }),
    'StopContainer: timeout is negative (-1 s)',
  ],
  [({ runtime }) => runtime.RemoveContainer(), 'RemoveContainer: container_id is empty'],
  [({ runtime }) => runtime.ContainerStatus(), 'ContainerStatus: container_id is empty'],
  [
    ({ runtime }) => runtime.ListContainers({ filter: { state: { state: 4 as 0 } } }),
    'ListContainers: filter.state.state has no value 4',
  ],
  [({ runtime }) => runtime.ExecSync({ cmd: ['x'] }), 'ExecSync: container_id is empty'],
  [({ runtime }) => runtime.ExecSync({ container_id: 'c' }), 'ExecSync: cmd is empty'],
  [
    ({ runtime }) => runtime.ExecSync({ container_id: 'c', cmd: ['x'], timeout: -5 }),
    'ExecSync: timeout is negative (-5 s)',
  ],
  [({ runtime }) => runtime.ReopenContainerLog(), 'ReopenContainerLog: container_id is empty'],
  ...['10.0.0.0', '10.0.0.0/33', 'fd00::/129', '10.0.0.0/24,', 'x/8'].map((cidr): (typeof malformed)[number] => [
    ({ runtime }) => runtime.UpdateRuntimeConfig({ runtime_config: { network_config: { pod_cidr: cidr } } }),
    `UpdateRuntimeConfig: runtime_config.network_config.pod_cidr "${cidr}" is not a list of networks ` +
      'such as 10.85.0.0/24',
  ]),
  [({ image }) => image.PullImage(), 'PullImage: image is missing'],
  [({ image }) => image.PullImage({ image: {} }), 'PullImage: image.image is empty'],
  [({ image }) => image.ImageStatus(), 'ImageStatus: image is missing'],
  [({ image }) => image.RemoveImage({ image: {} }), 'RemoveImage: image.image is empty'],
];

test('malformed requests are INVALID_ARGUMENT with the name of RPC and field, and reach nobody', async () => {
  // every call of the fakes fails with another status
  await using cri = await startServer();
  for (const [call, details] of malformed) {
    await assert.rejects(call(cri), { code: status.INVALID_ARGUMENT, details });
  }
});

test('an absent object is NOT_FOUND, with the hint', async () => {
  await using cri = await startServer();
  await assert.rejects(cri.runtime.PodSandboxStatus({ pod_sandbox_id: 'zz' }), {
    code: status.NOT_FOUND,
    details: 'pod sandbox "zz" does not exist (list them with crictl)',
  });
});

test('each error code has its gRPC status', async () => {
  const expected: Record<ErrorCode, status> = {
    invalid_argument: status.INVALID_ARGUMENT,
    not_found: status.NOT_FOUND,
    already_exists: status.ALREADY_EXISTS,
    failed_precondition: status.FAILED_PRECONDITION,
    permission_denied: status.PERMISSION_DENIED,
    untrusted: status.FAILED_PRECONDITION,
    resource_exhausted: status.RESOURCE_EXHAUSTED,
    deadline_exceeded: status.DEADLINE_EXCEEDED,
    cancelled: status.CANCELLED,
    unavailable: status.UNAVAILABLE,
    unimplemented: status.UNIMPLEMENTED,
    internal: status.INTERNAL,
  };
  const codes = Object.keys(expected) as ErrorCode[];
  const startContainer = (id: string) => Promise.reject(new CaissonError(codes[Number(id)] ?? 'internal', 'why'));
  await using cri = await startServer({ pods: { startContainer } });
  for (const [at, code] of codes.entries()) {
    const call = cri.runtime.StartContainer({ container_id: String(at) });
    await assert.rejects(call, { code: expected[code], details: 'why' });
  }
});

test('anything else thrown is INTERNAL without a stack, and logged with it', async () => {
  const bug = new TypeError('x is not a function');
  await using cri = await startServer({
    pods: {
      container: () => {
        throw bug;
      },
      containers: () => {
        throw bug;
      },
    },
  });
  const expected = { code: status.INTERNAL, details: 'x is not a function' };
  await assert.rejects(cri.runtime.ContainerStatus({ container_id: 'c' }), expected);
  await assert.rejects(collect(cri.runtime.StreamContainers()), expected);
  const errors = cri.logged.filter(({ level }) => level === 'error');
  assert.deepEqual(
    errors.map(({ fields }) => [fields['rpc'], fields['err']]),
    [
      ['ContainerStatus', bug],
      ['StreamContainers', bug],
    ],
  );
});

test('a failure whose undoing fails, too, is told by what failed first', async () => {
  const startContainer = async (): Promise<never> => {
    await using undo = new AsyncDisposableStack();
    undo.defer(() => Promise.reject(new Error('the undoing')));
    throw new CaissonError('unavailable', 'the reason');
  };
  await using cri = await startServer({ pods: { startContainer } });
  const call = cri.runtime.StartContainer({ container_id: 'c' });
  await assert.rejects(call, { code: status.UNAVAILABLE, details: 'the reason' });
  const [logged] = cri.logged.filter(({ level }) => level === 'error');
  assert.ok(logged?.fields['err'] instanceof SuppressedError); // both, for the operator
});

test('a message too long for a header is cut, one in other alphabets arrives', async () => {
  const startContainer = (id: string) =>
    Promise.reject(new CaissonError('internal', id === 'long' ? 'x'.repeat(1_000_000) : 'é 字\nzweite Zeile 100%'));
  await using cri = await startServer({ pods: { startContainer } });
  const long = cri.runtime.StartContainer({ container_id: 'long' });
  await assert.rejects(long, { code: status.INTERNAL, details: /^x{4096}…$/ });
  const strange = cri.runtime.StartContainer({ container_id: 'strange' });
  await assert.rejects(strange, { details: 'é 字\nzweite Zeile 100%' });
});

/** With each RPC that is implemented this list gets shorter. */
const refused = ['CheckpointContainer'];

test('these RPCs are UNIMPLEMENTED by name, and no others', async () => {
  const { RuntimeService, ImageService } = loadProto<ProtoGrpcType>('runtime/v1/api.proto').runtime.v1;
  await using cri = await startServer();
  const clients = [
    [RuntimeService.service, cri.runtime],
    [ImageService.service, cri.image],
  ] as const;
  const found: string[] = [];
  for (const [service, client] of clients) {
    for (const [name, method] of Object.entries(service)) {
      const call = (client as unknown as AnyClient)[name]?.();
      const ended = method.responseStream ? collect(call as AsyncIterable<unknown>) : call;
      const error = await Promise.resolve(ended).then(
        () => undefined,
        (failure: unknown) => failure as ServiceError,
      );
      if (error?.code !== status.UNIMPLEMENTED) continue;
      assert.match(error.details, new RegExp(`^${name} is not implemented by caisson 0\\.1\\.0(: .*|)$`));
      found.push(name);
    }
  }
  assert.deepEqual(new Set(found), new Set(refused));
});

type AnyClient = Readonly<Record<string, () => unknown>>;
