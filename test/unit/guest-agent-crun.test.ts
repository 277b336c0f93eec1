import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { crunError } from '../../guest-agent/src/crun.ts';

describe("crun's words", () => {
  const cases = {
    '2026-11-21T20:02:58.446Z: executable file `nope` not found in $PATH: No such file or directory': 'not_found',
    '2026-11-21T20:02:58.446Z: the path `/etc` exists but it is not executable: Operation not permitted':
      'permission_denied',
    '2026-11-21T20:02:58.446Z: the container `0123abc` is not running': 'failed_precondition',
    '2026-11-21T20:02:58.446Z: mount `proc` to `proc`: Operation not permitted': 'internal',
    '': 'internal',
  };
  for (const [log, code] of Object.entries(cases)) {
    it(`${JSON.stringify(log.slice(26))} is ${code}`, () => assert.equal(crunError(log, 1).code, code));
  }
});
