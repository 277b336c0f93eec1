/** What a URL stands for, checked when it is asked for. */
import { CaissonError } from '../lib/errors.ts';
import type { StreamService, StreamsWanted } from '../pod/contracts.ts';
import type { AttachUrlRequest, ExecUrlRequest, PortForwardUrlRequest } from './contracts.ts';

const MAX_PORT = 65_535;

export type StreamRequest =
  | {
      readonly kind: 'exec';
      /** full */
      readonly containerId: string;
      readonly command: readonly string[];
      readonly streams: StreamsWanted & { readonly tty: boolean };
    }
  | {
      readonly kind: 'attach';
      /** full */
      readonly containerId: string;
      readonly streams: StreamsWanted & { readonly tty: boolean };
    }
  | {
      readonly kind: 'portforward';
      /** full */
      readonly sandboxId: string;
      readonly ports: readonly number[];
    };

export function execRequest(request: ExecUrlRequest, service: StreamService): StreamRequest {
  if (request.command.length === 0) throw invalid('the command to execute is empty');
  const streams = checkedStreams(request);
  const { id } = service.streamable(request.containerId);
  return { kind: 'exec', containerId: id, command: [...request.command], streams };
}

export function attachRequest(request: AttachUrlRequest, service: StreamService): StreamRequest {
  const streams = checkedStreams(request);
  const { id } = service.streamable(request.containerId);
  return { kind: 'attach', containerId: id, streams };
}

export function portForwardRequest(request: PortForwardUrlRequest, service: StreamService): StreamRequest {
  const wrong = request.ports.find((port) => !Number.isInteger(port) || port < 1 || port > MAX_PORT);
  if (wrong !== undefined) throw invalid(`port ${wrong} is not between 1 and ${MAX_PORT}`);
  const { id } = service.forwardable(request.sandboxId);
  return { kind: 'portforward', sandboxId: id, ports: [...request.ports] };
}

function checkedStreams({ stdin, stdout, stderr, tty }: StreamsWanted & { readonly tty: boolean }) {
  if (tty && stderr) throw invalid('with a terminal there is no stderr: its output is one stream');
  if (!stdin && !stdout && !stderr) throw invalid('none of stdin, stdout and stderr is asked for');
  return { stdin, stdout, stderr, tty };
}

function invalid(message: string): CaissonError {
  return new CaissonError('invalid_argument', message);
}
