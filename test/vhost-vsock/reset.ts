import assert from 'node:assert/strict';
import { createAndStart, exec, readLog, textOf, waitForState, type TestPod } from '../support/pods.ts';
import { eventually, type Steps } from '../support/steps.ts';
import { timed, type Timings } from './pods.ts';

const LINES = 60;
const DRIVER = '/sys/bus/virtio/drivers/vmw_vsock_virtio_transport';
/** The guest forgets all its connections; the host's ends look open, and the agent still listens. */
const RESET = `sleep 5; cd ${DRIVER} && set -- virtio* && echo $1 >unbind && sleep 1 && echo $1 >bind`;

const RECONNECT_MS = 150_000;

/** The guest's vsock driver goes and comes back under a pod that is at work. */
export async function checkReset(steps: Steps, pod: TestPod, times: Timings): Promise<void> {
  const { daemon } = pod;
  const count = `i=0; while [ $i -lt ${LINES} ]; do i=$((i + 1)); echo line $i; sleep 1; done; exit 7`;
  const counter = await steps.need('a container counts', () => createAndStart(pod, 'count', ['sh', '-c', count]));
  await steps.need("the guest's vsock driver goes and comes back", async () => {
    const privileged = { linux: { security_context: { privileged: true } } };
    const reset = await createAndStart(pod, 'reset', ['sh', '-c', RESET], privileged);
    const { exit_code } = await timed(times, 'transport reset, until the end of its container is known', () =>
      waitForState(daemon, reset, 'CONTAINER_EXITED', RECONNECT_MS),
    );
    assert.equal(exit_code, 0);
  });
  await steps.check('exec reaches the agent again', async () => {
    await eventually(async () => assert.equal((await exec(daemon, counter, ['true'])).exitCode, 0), RECONNECT_MS);
  });
  await steps.check('no line and no exit code was lost', async () => {
    const { exit_code } = await waitForState(daemon, counter, 'CONTAINER_EXITED', RECONNECT_MS);
    assert.equal(exit_code, 7);
    const expected = Array.from({ length: LINES }, (_, index) => `line ${index + 1}\n`).join('');
    assert.equal(textOf(await readLog(pod, 'count.log')), expected);
  });
}
