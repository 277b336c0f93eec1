import { startCommand, type StartedCommand } from './command.ts';

const start = (): StartedCommand => startCommand('/usr/sbin/ip', ['-batch', '-']);

let waiting: StartedCommand | undefined;

/** Starts the next `ip` ahead of time: what it costs to load it is then not on the way of a pod's start. */
export function keepIpWaiting(): void {
  waiting ??= start();
}

/** Runs lines of `ip`, as far as they work; throws with the words of the first that does not. */
export async function ip(lines: readonly string[]): Promise<void> {
  const command = waiting ?? start();
  waiting = undefined;
  await command.finish(`${lines.join('\n')}\n`);
}
