import { pino } from 'pino';
import type { DestinationStream, Logger as PinoLogger } from 'pino';
import { pinoPretty } from './pretty.ts';
import { serializeError } from './errors.ts';
import { redact } from './redact.ts';
import type { Logger } from '../lib/logger.ts';

export interface LoggerOptions {
  readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error';
  /** for people instead of journald; whether stderr is a terminal decides if left out */
  readonly pretty?: boolean;
  /** stderr if left out */
  readonly destination?: DestinationStream;
}

const STDERR = 2;

/** Logs to stderr, a JSON object a line. Written synchronously, so that the last words before a crash are not lost. */
export function createLogger(options: LoggerOptions): Logger {
  const pretty = options.pretty ?? process.stderr.isTTY;
  const stderr = options.destination ?? pino.destination({ fd: STDERR, sync: true });
  const root = pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: serializeError, error: serializeError },
      formatters: { level: (label) => ({ level: label }), log: redactFields },
    },
    pretty ? pinoPretty(stderr) : stderr,
  );
  return redacting(root);
}

/** pino applies its formatters to the fields of a call, not to those of a child. */
function redacting(logger: PinoLogger): Logger {
  return {
    debug: (fields, message) => logger.debug(fields, message),
    info: (fields, message) => logger.info(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
    child: (fields) => redacting(logger.child(redactFields(fields))),
  };
}

function redactFields(fields: Record<string, unknown>): Record<string, unknown> {
  return redact({ ...fields }) as Record<string, unknown>;
}
