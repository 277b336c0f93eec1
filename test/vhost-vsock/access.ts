import assert from 'node:assert/strict';
import { join, resolve } from 'node:path';
import { constants } from 'node:os';
import { run } from '../../src/lib/exec.ts';
import { exists } from '../../src/lib/files.ts';
import type { TestDaemon } from '../support/daemon.ts';
import type { Steps } from '../support/steps.ts';

const NODE = resolve(import.meta.dirname, '../../bin/node');
const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all'];

/** Who reaches the agent of the one pod that runs. */
export async function checkAccess(steps: Steps, daemon: TestDaemon): Promise<void> {
  const cid = await steps.need('the address of the VM is no secret: every user can list it', async () => {
    const { stdout } = await run('env', ['--', ...NOBODY, 'ss', '--vsock', '--no-header']);
    const found = /\s(\d+):1024\s/.exec(stdout)?.[1];
    assert.ok(found, stdout);
    return found;
  });
  const dial = async (prefix: readonly string[], ownPort: number): Promise<number> => {
    const command = [NODE, join(import.meta.dirname, 'dial.ts'), cid, String(ownPort)];
    return Number((await run('env', ['--', ...prefix, ...command])).stdout);
  };
  await steps.check('its agent hangs up on a user', async () => {
    const first = await dial(NOBODY, 0);
    assert.ok(first === 0 || first === -constants.errno.ECONNRESET, `it answered ${first}`);
  });
  await steps.check('and on root, when the port is not a privileged one', async () => {
    const first = await dial([], 0);
    assert.ok(first === 0 || first === -constants.errno.ECONNRESET, `it answered ${first}`);
  });
  await steps.check('a user gets no privileged port', async () => {
    assert.equal(await dial(NOBODY, 99), -constants.errno.EACCES);
  });
  await steps.check('root gets the agent from one', async () => assert.ok((await dial([], 99)) > 0));
  await steps.check('what it was asked did not harm the daemon', async () =>
    assert.ok(await exists(daemon.config.socket)),
  );
}
