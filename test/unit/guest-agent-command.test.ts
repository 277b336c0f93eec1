import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { describe, it } from 'node:test';
import { startCommand, runCommand } from '../../guest-agent/src/command.ts';
import { startReaper } from '../../guest-agent/src/reaper.ts';

const descriptors = (): number => readdirSync('/proc/self/fd').length;
const root = process.getuid?.() === 0;

// its unnamed files are in /run
describe("the agent's programs", { skip: !root && 'needs root' }, () => {
  startReaper();

  it('get their input, and say why they failed', async () => {
    await startCommand('/bin/sh', ['-c', 'read line; test "$line" = abc']).finish('abc\n');
    await runCommand('/bin/sh', ['-c', 'read line; test "$line" = abc'], 'abc\n');
    await assert.rejects(runCommand('/bin/sh', ['-c', 'echo why >&2; exit 3']), /why/);
    // it does not read what it is given
    await assert.rejects(startCommand('/bin/sh', ['-c', 'exit 4']).finish('abc'), /exit code 4/);
  });

  it('leave no descriptors, whether they start or not', async () => {
    await runCommand('/bin/true', []);
    const before = descriptors();
    await assert.rejects(runCommand('/nowhere', []), /ENOENT/);
    assert.throws(() => startCommand('/nowhere', []), /ENOENT/);
    await runCommand('/bin/true', []);
    await startCommand('/bin/cat', []).finish('abc');
    assert.equal(descriptors(), before);
  });
});
