import type { ServiceDefinition, UntypedHandleCall, UntypedServiceImplementation } from '@grpc/grpc-js';
import { CaissonError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { RpcContext } from './call.ts';
import { serverStream } from './stream.ts';
import { unary } from './unary.ts';

/** What is missing for a reason gets a sentence that says so. */
const reasons: Readonly<Record<string, string>> = {
  CheckpointContainer: 'a container cannot be saved apart from its virtual machine, and those cannot be saved yet',
};

/** Handlers for all of a service's RPCs, each answering UNIMPLEMENTED with its name. CRI has no client streams. */
export function unimplemented(service: ServiceDefinition, version: string, log: Logger): UntypedServiceImplementation {
  const refuse = (_request: object, { rpc }: RpcContext): never => {
    const why = reasons[rpc] === undefined ? '' : `: ${reasons[rpc]}`;
    throw new CaissonError('unimplemented', `${rpc} is not implemented by caisson ${version}${why}`);
  };
  const handlers: Record<string, UntypedHandleCall> = {};
  for (const [name, method] of Object.entries(service)) {
    handlers[name] = method.responseStream ? serverStream(log, refuse) : unary('read', log, refuse);
  }
  return handlers;
}
