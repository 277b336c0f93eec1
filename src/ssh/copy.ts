import type { Readable, Writable } from 'node:stream';

/** Hands on until the end, and the end too; when the sink takes no more, the rest is dropped. */
export function feed(source: Readable, sink: Writable | undefined): void {
  if (!sink) {
    source.resume();
    return;
  }
  const drop = (): void => {
    source.unpipe(sink);
    source.resume();
  };
  sink.on('error', drop);
  sink.on('close', drop);
  source.pipe(sink);
}

/** Hands on all of it, without the end. Rejects with what broke the source off. */
export async function carry(source: Readable | undefined, sink: Writable): Promise<void> {
  if (!source) return;
  // of a connection, the other direction goes on
  const chunks: AsyncIterable<Buffer> = source.iterator({ destroyOnReturn: false });
  for await (const chunk of chunks) {
    const { promise, resolve } = Promise.withResolvers<void>();
    sink.write(chunk, () => resolve());
    await promise;
  }
}
