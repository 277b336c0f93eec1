import { CaissonError } from '../lib/errors.ts';
import { matchesGlob } from './glob.ts';

/** What the holder of a key may do. */
export interface Permits {
  /** `namespace/pod` patterns; undefined: all */
  readonly pods: readonly string[] | undefined;
  readonly pty: boolean;
  readonly forwarding: boolean;
  /** ports of the pod; undefined: all */
  readonly ports: ReadonlySet<number> | undefined;
}

export const EVERYTHING: Permits = { pods: undefined, pty: true, forwarding: true, ports: undefined };

export interface KeyOption {
  /** in lower case */
  readonly name: string;
  readonly value: string | undefined;
}

/** In order, as in authorized_keys(5). `invalid_argument` for an option that is unknown, or wrong. */
export function permitsOf(options: readonly KeyOption[]): Permits {
  return options.reduce(apply, EVERYTHING);
}

const FLAGS: Readonly<Record<string, Partial<Permits>>> = {
  restrict: { pty: false, forwarding: false },
  'no-pty': { pty: false },
  pty: { pty: true },
  'no-port-forwarding': { forwarding: false },
  'port-forwarding': { forwarding: true },
  // never offered
  'no-agent-forwarding': {},
  'no-x11-forwarding': {},
  'no-user-rc': {},
};

function apply(permits: Permits, { name, value }: KeyOption): Permits {
  if (name === 'pods' && value !== undefined) {
    if (permits.pods) throw refuse('pods is given twice');
    return { ...permits, pods: value.split(',').map(podPattern) };
  }
  if (name === 'permitopen' && value !== undefined) {
    const port = openPort(value);
    return port === 'any' ? permits : { ...permits, ports: new Set([...(permits.ports ?? []), port]) };
  }
  const flag = FLAGS[name];
  if (!flag) throw refuse(`unknown option ${JSON.stringify(name)}`);
  if (value !== undefined) throw refuse(`${name} takes no value`);
  return { ...permits, ...flag };
}

function podPattern(text: string): string {
  if (/^[a-z0-9.*-]+\/[a-z0-9.*-]+$/.test(text)) return text;
  throw refuse(`pods: ${JSON.stringify(text)} is no namespace/pod`);
}

/** `localhost:8080`; whatever stands for the pod itself, or `*`, is the same. */
function openPort(text: string): number | 'any' {
  const [, host = '', port = ''] = /^(.+):(\d{1,5}|\*)$/.exec(text) ?? [];
  if (host !== '*' && !isLoopback(host)) throw refuse(`permitopen: ${JSON.stringify(text)} is not the pod's localhost`);
  if (port === '*') return 'any';
  if (Number(port) < 1 || Number(port) > 65_535) throw refuse(`permitopen: ${port} is not a TCP port`);
  return Number(port);
}

/** The names that a client may have for the pod's own loopback. */
export function isLoopback(host: string): boolean {
  const plain = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
  return plain === 'localhost' || plain === '127.0.0.1' || plain === '::1';
}

export function mayEnter({ pods }: Permits, pod: { readonly namespace: string; readonly name: string }): boolean {
  if (!pods) return true;
  return pods.some((pattern) => matchesGlob(pattern, `${pod.namespace}/${pod.name}`));
}

const refuse = (why: string): CaissonError => new CaissonError('invalid_argument', why);
