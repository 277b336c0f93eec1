import { constants } from 'node:os';
import { CaissonError } from '../lib/errors.ts';

const DEFAULT_STOP_SIGNAL = 'SIGTERM';
const FIRST_REALTIME = 34;
const LAST_REALTIME = 64;

/**
 * The number of the signal that asks a container to stop. CRI's enum (`SIGUSR1`, `SIGRTMINPLUS3`) comes before the
 * image's text (`SIGUSR1`, `USR1`, `10`, `SIGRTMIN+3`). Throws `invalid_argument` for a signal that does not exist.
 */
export function stopSignalNumber(fromConfig: string | number, fromImage: string): number {
  // a signal that this version's enum does not have comes as a number
  const configured = String(fromConfig);
  const asked = configured !== '' && configured !== 'RUNTIME_DEFAULT' ? configured : fromImage || DEFAULT_STOP_SIGNAL;
  if (/^\d+$/.test(asked)) return checked(Number(asked), asked);
  const name = asked.toUpperCase().replace(/^(SIGNAL_)?(SIG)?/, 'SIG');
  const realtime = /^SIGRT(MIN|MAX)(?:(PLUS|MINUS|\+|-)(\d+))?$/.exec(name);
  if (realtime) {
    const offset = Number(realtime[3] ?? 0);
    return checked(realtime[1] === 'MIN' ? FIRST_REALTIME + offset : LAST_REALTIME - offset, asked);
  }
  return checked((constants.signals as Record<string, number>)[name] ?? 0, asked);
}

function checked(number: number, asked: string): number {
  if (number >= 1 && number <= LAST_REALTIME) return number;
  throw new CaissonError('invalid_argument', `${JSON.stringify(asked)} is not a stop signal`);
}
