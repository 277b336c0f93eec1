import fs from 'node:fs';
import { SftpServer } from './server.ts';

const STDIN = 0;
const STDOUT = 1;
const CHUNK_BYTES = 64 * 1024;

/** Serves who is at the other end of the standard streams, until they end. Waits in the system calls themselves. */
export function serveSftp(home: string): void {
  goHome(home);
  const server = new SftpServer({ home });
  const chunk = Buffer.alloc(CHUNK_BYTES);
  for (let count = read(chunk); count > 0; count = read(chunk))
    for (const answer of server.take(chunk.subarray(0, count))) write(answer);
  server.close();
}

/** Relative paths begin there. */
function goHome(home: string): void {
  try {
    process.chdir(home);
  } catch {
    process.chdir('/'); // an image need not have it
  }
}

const read = (chunk: Buffer): number => fs.readSync(STDIN, chunk, 0, chunk.length, null);

function write(bytes: Buffer): void {
  for (let at = 0; at < bytes.length;) at += fs.writeSync(STDOUT, bytes, at, bytes.length - at);
}
