import { text } from 'node:stream/consumers';
import { CaissonError } from '../../src/lib/errors.ts';
import { startChild } from './reaper.ts';

const MAX_WORDS = 500;

/** Runs a program of the guest image to its end. Throws `internal` with its words when it fails. */
export async function runTool(command: string, args: readonly string[], input?: Buffer): Promise<void> {
  const child = startChild(command, args, { stdio: [input ? 'pipe' : 'ignore', 'ignore', 'pipe'] });
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? -1));
  });
  child.stdin?.on('error', () => undefined); // it has ended without reading all, and says why
  child.stdin?.end(input);
  const [code, words] = await Promise.all([ended, child.stderr ? text(child.stderr) : '']);
  if (code !== 0) throw new CaissonError('internal', `${args.join(' ')}: ${words.trim().slice(-MAX_WORDS)}`);
}
