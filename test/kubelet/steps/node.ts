import { match, strictEqual } from 'node:assert/strict';
import { NODE, type World } from '../world.ts';

interface NodeObject {
  readonly status: {
    readonly nodeInfo: Readonly<Record<string, string>>;
    readonly runtimeHandlers?: readonly {
      readonly name: string;
      readonly features?: Readonly<Record<string, boolean>>;
    }[];
  };
}

export async function node({ steps, kubectl, kubelet }: World): Promise<void> {
  await steps.need('the node becomes Ready', async () => {
    const ready = kubectl.ok('wait', '--for=create', `node/${NODE}`, '--timeout=300s');
    await ready.catch(async (error: unknown) => {
      throw new Error(`${String(error)}\n${await kubelet.program.lastLines(15)}`, { cause: error });
    });
    await kubectl.ok('wait', '--for=condition=Ready', `node/${NODE}`, '--timeout=300s');
  });
  await steps.check('its runtime is caisson', async () => {
    const { status } = await kubectl.json<NodeObject>('get', 'node', NODE);
    match(status.nodeInfo['containerRuntimeVersion'] ?? '', /^caisson:\/\/\d+\.\d+\.\d+/);
    match(status.nodeInfo['kubeletVersion'] ?? '', /^v1\.36\.\d+$/);
  });
  await steps.check('its runtime handlers are those of caisson, with user namespaces', async () => {
    const { status } = await kubectl.json<NodeObject>('get', 'node', NODE);
    const handler = status.runtimeHandlers?.find(({ name }) => name === 'caisson');
    strictEqual(handler?.features?.['userNamespaces'], true, JSON.stringify(status.runtimeHandlers));
  });
}
