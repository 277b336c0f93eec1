import pretty from 'pino-pretty';
import type { DestinationStream } from 'pino';

/** For people at a terminal: time, level and sentence, fields below. */
export function pinoPretty(destination: DestinationStream): DestinationStream {
  const format = pretty.prettyFactory({
    colorize: process.stderr.isTTY && process.env['NO_COLOR'] === undefined,
    translateTime: 'SYS:HH:MM:ss.l',
    singleLine: true,
  });
  return { write: (line) => destination.write(format(line)) };
}
