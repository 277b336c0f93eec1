/**
 * Starts programs by glibc's posix_spawn. Node's own spawn forks: that copies the page tables of the whole agent and
 * makes each page that it writes next fault, many times the cost of the program itself.
 */
import koffi from 'koffi';
import { systemError } from './native.ts';

const libc = koffi.load('libc.so.6');
const c = {
  spawn: libc.func(
    'int posix_spawn(_Out_ int *pid, const char *path, uint8_t *actions, uint8_t *attributes, const char **args, const char **env)',
  ),
  actionsInit: libc.func('int posix_spawn_file_actions_init(uint8_t *actions)'),
  addDup2: libc.func('int posix_spawn_file_actions_adddup2(uint8_t *actions, int from, int to)'),
  actionsDestroy: libc.func('int posix_spawn_file_actions_destroy(uint8_t *actions)'),
  attributesInit: libc.func('int posix_spawnattr_init(uint8_t *attributes)'),
  setFlags: libc.func('int posix_spawnattr_setflags(uint8_t *attributes, short flags)'),
  setDefault: libc.func('int posix_spawnattr_setsigdefault(uint8_t *attributes, const uint8_t *signals)'),
  setMask: libc.func('int posix_spawnattr_setsigmask(uint8_t *attributes, const uint8_t *signals)'),
};

// glibc's on x86-64, where they may not grow
const ACTIONS_BYTES = 80;
const ATTRIBUTES_BYTES = 336;
const SIGNALS_BYTES = 128;
const POSIX_SPAWN_SETSIGDEF = 4;
const POSIX_SPAWN_SETSIGMASK = 8;

const SIGPIPE = 13;
const defaults = Buffer.alloc(SIGNALS_BYTES);
defaults.writeUInt32LE(1 << (SIGPIPE - 1));

/** None blocked, and SIGPIPE with its default action: Node ignores it, and a program inherits what is ignored. */
const attributes = Buffer.alloc(ATTRIBUTES_BYTES);
c.attributesInit(attributes);
c.setFlags(attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
c.setDefault(attributes, defaults);
c.setMask(attributes, Buffer.alloc(SIGNALS_BYTES));

/**
 * Returns the pid. `stdio` are descriptors for 0, 1 and 2; all others must be close-on-exec. Throws an Error with `code`
 * when there is no such program.
 */
export function spawnProgram(
  path: string,
  args: readonly string[],
  env: readonly string[],
  stdio: readonly [number, number, number],
): number {
  const actions = Buffer.alloc(ACTIONS_BYTES);
  c.actionsInit(actions);
  try {
    for (const [to, from] of stdio.entries()) c.addDup2(actions, from, to);
    const pid: [number] = [0];
    const error = Number(c.spawn(pid, path, actions, attributes, [path, ...args, null], [...env, null]));
    if (error === 0) return pid[0];
    throw systemError(`posix_spawn of ${path}`, error);
  } finally {
    c.actionsDestroy(actions);
  }
}
