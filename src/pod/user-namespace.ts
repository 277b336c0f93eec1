import { CaissonError } from '../lib/errors.ts';
import type { NamespaceOption } from './contracts.ts';

export interface IdMapping {
  readonly host_id: number;
  readonly container_id: number;
  readonly length: number;
}

/** The one mapping of user ids and the one of group ids that a pod has, into the ids of its VM. */
export interface UserNamespace {
  readonly uids: IdMapping;
  readonly gids: IdMapping;
}

const FIELD = 'config.linux.security_context.namespace_options.userns_options';
const IDS = 2 ** 32;

const refuse = (why: string): never => {
  throw new CaissonError('invalid_argument', `${FIELD}: ${why}`);
};

/** Undefined for a pod without one. Throws `invalid_argument` for what the contract does not have. */
export function userNamespace(options: NamespaceOption | null | undefined): UserNamespace | undefined {
  const asked = options?.userns_options;
  if (!asked) return undefined;
  if (asked.mode === 'NODE') {
    if (asked.uids.length + asked.gids.length > 0) refuse('mode NODE has no mappings');
    return undefined;
  }
  if (asked.mode !== 'POD') return refuse(`mode ${asked.mode} does not exist for user namespaces, only POD and NODE`);
  return { uids: single('uids', asked.uids), gids: single('gids', asked.gids) };
}

function single(which: string, mappings: readonly IdMapping[]): IdMapping {
  const [mapping] = mappings;
  if (!mapping || mappings.length > 1) return refuse(`${which} needs exactly one mapping, not ${mappings.length}`);
  const { host_id, container_id, length } = mapping;
  if (container_id !== 0) refuse(`${which} begins at ${container_id}, not at 0`);
  if (length === 0) refuse(`${which} maps nothing`);
  if (host_id + length > IDS) refuse(`${which} ends above the highest id`);
  return mapping;
}

/** A container is in its pod's user namespace, whatever it says; one that says otherwise is refused. */
export function checkSameUserNamespace(pod: UserNamespace | undefined, container: UserNamespace | undefined): void {
  if (!container || JSON.stringify(pod) === JSON.stringify(container)) return;
  refuse("differs from the pod's");
}
