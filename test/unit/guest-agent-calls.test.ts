import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { credentials, ServerCredentials, status, type ServiceError } from '@grpc/grpc-js';
import { loadContract, makeServer } from '../../guest-agent/src/server.ts';
import { removeTree } from '../../src/lib/files.ts';
import { temporaryDirectory } from '../support/temporary.ts';

// by themselves Node's servers take 1000 at once
const CLIENTS = 1500;

test('however many clients leave in the middle of their calls, the others stay', async () => {
  await using undo = new AsyncDisposableStack();
  const directory = await temporaryDirectory();
  undo.defer(() => removeTree(directory));
  const injector = makeServer().createConnectionInjector(ServerCredentials.createInsecure());
  undo.defer(() => injector.destroy());
  const listener = createServer((socket) => injector.injectConnection(socket));
  undo.defer(() => void listener.close());
  const path = join(directory, 'agent.sock');
  await once(listener.listen(path), 'listening');
  const Agent = loadContract().Agent;
  const client = new Agent(`unix:${path}`, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  undo.defer(() => client.close());
  // a call that the agent holds open: it waits to hear what is wanted
  const stays = client.Exec();
  let failure: ServiceError | undefined;
  stays.on('data', () => undefined).on('error', (error: ServiceError) => (failure = error));
  const over = once(stays, 'error') as Promise<[ServiceError]>;
  for (let i = 0; i < CLIENTS; i++) {
    const leaves = client.Exec();
    leaves.on('data', () => undefined).on('error', () => undefined);
    leaves.write({ exec: { container_id: 'none', command: ['true'] } });
    // under way to the agent before it is dropped
    await new Promise(setImmediate);
    leaves.cancel();
  }
  // behind all of those on the same connection
  await new Promise<void>((resolve) => {
    client.RemoveContainer({ id: 'none' }, () => resolve());
  });
  assert.equal(failure, undefined);
  stays.cancel();
  const [{ code }] = await over;
  assert.equal(code, status.CANCELLED);
});
