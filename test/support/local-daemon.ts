import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { startDaemon } from '../../src/cli/daemon.ts';
import { connectCri } from '../../src/lib/grpc/cri-client.ts';
import type { PodService } from '../../src/pod/contracts.ts';
import { createLogger } from '../../src/telemetry/index.ts';
import { prepare, removePods, type TestDaemonOptions, type TestPlace } from './daemon.ts';
import type { PodsDaemon } from './pods.ts';

/** A daemon in the test's own process, so that what is below the edges can be called. */
export interface LocalDaemon extends TestPlace, PodsDaemon, AsyncDisposable {
  readonly pods: PodService;
  readonly pid: number;
}

export async function startLocalDaemon(
  options: Omit<TestDaemonOptions, 'env' | 'ownSession'> = {},
): Promise<LocalDaemon> {
  await using undo = new AsyncDisposableStack();
  const place = await prepare(undo, options);
  const destination = createWriteStream(join(place.dir, 'daemon.log'));
  const daemon = undo.use(await startDaemon(place.config, createLogger({ level: 'debug', destination })));
  const cri = connectCri(place.config.socket);
  undo.defer(() => cri.close());
  undo.defer(() => removePods(cri));
  const release = undo.move();
  return {
    ...place,
    cri,
    pods: daemon.pods,
    pid: process.pid,
    [Symbol.asyncDispose]: () => release.disposeAsync(),
  };
}
