import { ServerCredentials } from '@grpc/grpc-js';
import type { Socket } from 'node:net';
import { describeError } from '../../src/lib/errors.ts';
import { keepIpWaiting } from './ip.ts';
import { startReaper } from './reaper.ts';
import { AGENT_VERSION, makeServer } from './server.ts';
import { hasKernelArgument } from './kernel-arguments.ts';
import { mountScratch, prepareRoot } from './sandbox.ts';
import { warmUp } from './warm-up.ts';
import { listenVsock } from './vsock-listener.ts';

/** The host dials it: src/vm/vsock. */
const AGENT_PORT = 1024;

process.on('uncaughtException', (error) => {
  // process 1 must not end: the VM would; the host reads this in the guest's log
  process.stdout.write(`caisson-agent: uncaught: ${error.stack ?? error.message}\n`);
});

startReaper();
prepareRoot();
mountScratch().catch(() => undefined); // told to whoever needs it
const injector = makeServer().createConnectionInjector(ServerCredentials.createInsecure());
const serve = (socket: Socket): void => {
  socket.on('error', () => socket.destroy());
  injector.injectConnection(socket);
};
listenVsock(AGENT_PORT, { privilegedOnly: hasKernelArgument('caisson.privileged') }, serve);
process.stdout.write(`caisson-agent: ${AGENT_VERSION} listens on vsock port ${AGENT_PORT}\n`);
keepIpWaiting();
// a VM that is to be saved as the template of many: src/vm/template
if (hasKernelArgument('caisson.template'))
  void warmUp(serve).then(
    () => process.stdout.write('caisson-agent: settled\n'),
    (error: unknown) => process.stdout.write(`caisson-agent: the rehearsal failed: ${describeError(error)}\n`),
  );
