import { open } from 'node:fs/promises';
import { createReadStream } from 'node:fs';
import { pipeline, Readable } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { CaissonError } from '../lib/errors.ts';

type Compression = 'none' | 'gzip' | 'zstd';

/** The uncompressed bytes of a file that is gzip, zstd or plain: its first bytes decide, media types are hearsay. */
export async function openDecompressed(path: string): Promise<Readable> {
  const compression = await compressionOf(path);
  const file = createReadStream(path, { highWaterMark: 256 * 1024 });
  if (compression === 'none') return file;
  const source = compression === 'gzip' ? file : Readable.from(splitZstdFrames(file), { objectMode: false });
  const decompressor = compression === 'gzip' ? createGunzip() : createZstdDecompress();
  // errors of all stages surface at the end that is read
  pipeline(source, decompressor, () => undefined);
  return decompressor;
}

async function compressionOf(path: string): Promise<Compression> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
    if (bytesRead >= 2 && buffer.readUInt16BE(0) === 0x1f8b) return 'gzip';
    return bytesRead === 4 && isZstdMagic(buffer.readUInt32LE(0)) ? 'zstd' : 'none';
  } finally {
    await file.close();
  }
}

const ZSTD_MAGIC = 0xfd2fb528;

function isZstdMagic(magic: number): boolean {
  return magic === ZSTD_MAGIC || isSkippable(magic);
}

function isSkippable(magic: number): boolean {
  return magic >= 0x184d2a50 && magic <= 0x184d2a5f;
}

/**
 * Cuts a zstd stream into chunks that end where frames end. Node's decompressor drops whatever follows a frame's end in
 * the same chunk, and says nothing; zstd:chunked layers have a frame per file.
 * Throws `failed_precondition` when the stream ends within a frame.
 */
export async function* splitZstdFrames(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let frame = parseFrame();
  let wanted = frame.next().value ?? 0;
  let seen: Buffer[] = [];
  let isInFrame = false;
  for await (const chunk of source) {
    let start = 0;
    let at = 0;
    while (at < chunk.length) {
      const piece = chunk.subarray(at, at + wanted);
      at += piece.length;
      wanted -= piece.length;
      isInFrame = true;
      if (seen.length < MAX_PIECES) seen.push(piece);
      while (wanted === 0 && isInFrame) {
        const step = frame.next(Buffer.concat(seen));
        seen = [];
        if (step.done) isInFrame = false;
        else wanted = step.value;
      }
      if (isInFrame) continue;
      yield chunk.subarray(start, at);
      start = at;
      frame = parseFrame();
      wanted = frame.next().value ?? 0;
    }
    if (start < at) yield chunk.subarray(start);
  }
  if (isInFrame) throw new CaissonError('failed_precondition', 'the zstd stream ends in the middle of a frame');
}

/** Enough for every header; what blocks hold is never looked at. */
const MAX_PIECES = 16;

/** Walks one frame (RFC 8878, 3.1): yields how many bytes come next, is given them, returns at the frame's end. */
function* parseFrame(): Generator<number, void, Buffer> {
  const magic = (yield 4).readUInt32LE(0);
  if (isSkippable(magic)) {
    yield (yield 4).readUInt32LE(0);
    return;
  }
  if (magic !== ZSTD_MAGIC) throw new CaissonError('failed_precondition', 'the zstd stream holds something else');
  const descriptor = (yield 1).readUInt8(0);
  yield headerRest(descriptor);
  for (let isLast = false; !isLast;) {
    const block = (yield 3).readUIntLE(0, 3);
    isLast = (block & 1) === 1;
    const isRunLength = ((block >> 1) & 3) === 1;
    yield isRunLength ? 1 : block >> 3;
  }
  if (descriptor & 4) yield 4; // checksum
}

/** Bytes of window descriptor, dictionary id and content size. */
function headerRest(descriptor: number): number {
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const dictionaryId = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const contentSize = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  return (isSingleSegment ? 0 : 1) + dictionaryId + contentSize;
}
