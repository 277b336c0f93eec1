import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { findProcesses, killProcess, killGroup, startDetached } from '../../src/lib/processes.ts';

const WITHIN_MS = 5000;

describe('a detached process that is killed', () => {
  it('takes with it what it has started', { timeout: 4 * WITHIN_MS }, async () => {
    const child = `sleep ${randomInt(1e6, 1e7)}`;
    const running = () => findProcesses((commandLine) => commandLine.trim() === child);
    const until = async (isSo: (count: number) => boolean): Promise<void> => {
      for (const deadline = Date.now() + WITHIN_MS; !isSo((await running()).length); await sleep(10))
        assert.ok(Date.now() < deadline, `${(await running()).length} of ${child} after ${WITHIN_MS} ms`);
    };
    const shell = await startDetached('sh', ['-c', `${child}; true`], '/dev/null');
    try {
      await until((count) => count === 1);
      await killGroup(shell.identity);
      await until((count) => count === 0);
    } finally {
      for (const identity of await running()) await killProcess(identity);
    }
  });
});
