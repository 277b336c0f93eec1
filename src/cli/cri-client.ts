import { status, type ServiceError } from '@grpc/grpc-js';
import { access, constants } from 'node:fs/promises';
import { CaissonError, isErrno } from '../lib/errors.ts';
import { connectCri, type CriConnection } from '../lib/grpc/cri-client.ts';

/** `ms` to find out that no daemon listens */
const CONNECT_TIMEOUT_MS = 3000;

export type DaemonConnection = CriConnection & Disposable;

/** The daemon that listens on `socket`, as the kubelet sees it. Throws `unavailable` when there is none. */
export async function connectDaemon(socket: string): Promise<DaemonConnection> {
  await requireAccess(socket);
  const cri = connectCri(socket);
  try {
    await cri.ready(CONNECT_TIMEOUT_MS);
  } catch (cause) {
    cri.close();
    throw noDaemon(socket, cause);
  }
  return { ...cri, [Symbol.dispose]: () => cri.close() };
}

/** gRPC does not say why it cannot connect. */
async function requireAccess(socket: string): Promise<void> {
  try {
    await access(socket, constants.R_OK | constants.W_OK);
  } catch (cause) {
    if (!isErrno(cause, 'EACCES')) throw noDaemon(socket, cause);
    throw new CaissonError('permission_denied', `${socket} is for root only`, { cause, hint: 'sudo caisson ...' });
  }
}

function noDaemon(socket: string, cause: unknown): CaissonError {
  return new CaissonError('unavailable', `no caisson daemon answers on ${socket}`, {
    cause,
    hint: 'start one with `caisson serve` or `systemctl start caisson`, or name its socket with --socket',
  });
}

/** That a call failed because the daemon went away: another may answer a later call. */
export function isUnavailable(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && error.code === status.UNAVAILABLE;
}
