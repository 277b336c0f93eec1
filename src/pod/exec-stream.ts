import { CaissonError } from '../lib/errors.ts';
import type { PodContext } from './context.ts';
import type { ExecStreamRequest, ProcessSession } from './contracts.ts';
import { requireStreamable } from './live.ts';

/** Runs a command in a running container, with its streams. */
export async function execStream(
  context: PodContext,
  id: string,
  request: ExecStreamRequest,
  signal: AbortSignal,
): Promise<ProcessSession> {
  const { command, tty, stdin, stdout, stderr, env = {}, size } = request;
  validateExec(request);
  const { live } = requireStreamable(context, id);
  return await live.agent.exec({ containerId: id, command, tty, stdin, stdout, stderr, env, size }, signal);
}

/** `invalid_argument` for what can never run. */
export function validateExec({ command, tty, stderr, env = {} }: ExecStreamRequest): void {
  const refuse = (why: string): never => {
    throw new CaissonError('invalid_argument', why);
  };
  if (command.length === 0) refuse('cmd: is empty');
  if (command.some((text) => text.includes('\0'))) refuse('cmd: has a NUL');
  if (tty && stderr) refuse('stderr: a terminal has one stream of output, stdout');
  for (const [name, value] of Object.entries(env)) {
    if (name === '' || /[=\0]/.test(name)) refuse(`env: ${JSON.stringify(name)} is not a variable's name`);
    if (value.includes('\0')) refuse(`env: the value of ${name} has a NUL`);
  }
}
