import { once } from 'node:events';
import { connect } from 'node:net';
import { CaissonError } from '../lib/errors.ts';
import { preambleOf } from '../ssh/preamble.ts';
import { HOST, HOST_SUFFIX } from './ssh-setup.ts';

/** Until the gateway closes. `host`: the name that ssh was given; `web.default.caisson` names a target. */
export async function proxySsh(socketPath: string, host: string | undefined): Promise<void> {
  const target = targetOf(host);
  const socket = connect(socketPath);
  try {
    await once(socket, 'connect');
  } catch (cause) {
    throw new CaissonError('unavailable', `cannot reach the ssh gateway at ${socketPath}`, {
      cause,
      hint: 'set `enabled = true` in [ssh] of the configuration, and see that the daemon runs',
    });
  }
  if (target !== undefined) socket.write(preambleOf(target));
  // ssh may leave first
  process.stdout.on('error', () => socket.destroy());
  socket.on('error', () => socket.destroy());
  // also when it is reset, as somebody who has tried too many keys is: ssh says what that means
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  process.stdin.pipe(socket);
  socket.pipe(process.stdout);
  await closed;
  process.stdin.destroy();
}

/** None for `caisson` itself: then the user name says it. */
function targetOf(host: string | undefined): string | undefined {
  if (host === undefined || host === HOST) return undefined;
  const target = host.endsWith(HOST_SUFFIX) ? host.slice(0, -HOST_SUFFIX.length) : host;
  if (!/^[A-Za-z0-9.:_-]{1,400}$/.test(target))
    throw new CaissonError('invalid_argument', `${JSON.stringify(host)} names no container`);
  return target;
}
