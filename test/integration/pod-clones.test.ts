import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { startTestDaemon, type TestDaemon } from '../support/daemon.ts';
import * as pods from '../support/pods.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';

/** What must differ between two clones of one template, whatever they were cloned from. */
const SECRETS = {
  bootId: 'cat /proc/sys/kernel/random/boot_id',
  uuid: 'cat /proc/sys/kernel/random/uuid',
  // what TLS libraries ask at their start
  urandom: 'head -c 32 /dev/urandom | hexdump -ve \'1/1 "%02x"\'',
  // the kernel's gift to each new process: AT_RANDOM, of which canaries and hash seeds are made
  auxv: 'hexdump -ve \'1/1 "%02x"\' /proc/self/auxv',
  addresses: "grep -F '[stack]' /proc/self/maps",
  mac: 'cat /sys/class/net/eth0/address',
  ip: 'ip -4 -o addr show dev eth0',
};

describe('two pods cloned from one template', { skip }, () => {
  let daemon: TestDaemon;
  const shells: string[] = [];

  before(async () => {
    daemon = await startTestDaemon();
    for (const name of ['one', 'two']) {
      const pod = await pods.runPod(daemon, name);
      shells.push(await pods.createAndStart(pod, 'shell', ['sleep', '1000']));
    }
  });
  after(() => daemon?.[Symbol.asyncDispose]());

  for (const [what, command] of Object.entries(SECRETS)) {
    it(`differ in ${what}`, async () => {
      const found = await Promise.all(shells.map((id) => pods.sh(daemon, id, command)));
      const [one = '', two = ''] = found.map(({ stdout }) => stdout.trim());
      assert.notEqual(one, '');
      assert.notEqual(one, two);
    });
  }

  it("have the host's time, within 50 ms", async () => {
    for (const id of shells) {
      const begun = Date.now();
      const { stdout } = await pods.sh(
        daemon,
        id,
        `adjtimex 2>/dev/null | awk '/time.tv_sec/ { s = $2 } /time.tv_usec/ { u = $2 } END { printf "%.3f", s * 1000 + u / 1000 }'`,
      );
      const ended = Date.now();
      const guest = Number(stdout);
      assert.ok(guest >= begun - 50 && guest <= ended + 50, `${guest} is not between ${begun} and ${ended}`);
    }
  });
});
