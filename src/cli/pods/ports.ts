import { CaissonError } from '../../lib/errors.ts';

export interface PortPair {
  /** 0 for a free one */
  readonly local: number;
  readonly remote: number;
}

const MAX_PORT = 65_535;

/** `[LOCAL:]REMOTE`; an empty or missing LOCAL is a free port, or the same one. */
export function parsePorts(text: string): PortPair {
  const [, local, remote = ''] = /^(?:(\d{0,5}):)?(\d{1,5})$/.exec(text) ?? [];
  const pair = { local: Number(local ?? remote), remote: Number(remote) };
  if (remote !== '' && pair.remote >= 1 && pair.remote <= MAX_PORT && pair.local <= MAX_PORT) return pair;
  throw new CaissonError('invalid_argument', `${JSON.stringify(text)} names no ports`, {
    hint: 'REMOTE, LOCAL:REMOTE, or :REMOTE for a free local one; from 1 to 65535',
  });
}
