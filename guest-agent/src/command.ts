import { CaissonError } from '../../src/lib/errors.ts';
import { startChild } from './reaper.ts';

const MAX_STDERR_BYTES = 16 * 1024;

/** Runs a program of the VM's root to its end; throws with its last words when it fails. */
export async function runCommand(command: string, args: readonly string[], input = ''): Promise<void> {
  const child = startChild(command, args, { stdio: ['pipe', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-MAX_STDERR_BYTES);
  });
  child.stdin?.on('error', () => undefined); // a program that does not read its input says why on stderr
  child.stdin?.end(input);
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => resolve(status ?? (signal ? 128 : -1)));
  });
  if (code !== 0)
    throw new CaissonError(
      'internal',
      `${command} ${args[0] ?? ''} failed in the guest: ${stderr.trim() || `exit code ${code}`}`,
    );
}
