import { ServerCredentials } from '@grpc/grpc-js';
import { readFileSync, writeFileSync } from 'node:fs';
import { startReaper } from './reaper.ts';
import { AGENT_VERSION, makeServer } from './server.ts';
import { listenVsock } from './vsock-listener.ts';

/** The host dials it: src/vm/vsock. */
const AGENT_PORT = 1024;

process.on('uncaughtException', (error) => {
  // process 1 must not end: the VM would; the host reads this in the guest's log
  process.stdout.write(`caisson-agent: uncaught: ${error.stack ?? error.message}\n`);
});

startReaper();
const injector = makeServer().createConnectionInjector(ServerCredentials.createInsecure());
listenVsock(AGENT_PORT, (socket) => {
  socket.on('error', () => socket.destroy());
  injector.injectConnection(socket);
});
process.stdout.write(`caisson-agent: ${AGENT_VERSION} listens on vsock port ${AGENT_PORT}\n`);

// A VM that is to be saved: every page that is given back now is one that no clone has to copy.
if (readFileSync('/proc/cmdline', 'utf8').includes('caisson.template')) {
  globalThis.gc?.();
  writeFileSync('/proc/sys/vm/drop_caches', '3');
  process.stdout.write('caisson-agent: settled\n');
}
