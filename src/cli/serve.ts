import type { Command } from 'commander';
import { run } from '../lib/exec.ts';
import type { Logger } from '../lib/logger.ts';
import { createLogger } from '../telemetry/index.ts';
import { caissonVersion, configOf } from './context.ts';

/** `ms` that leftovers may keep the process alive when everything was disposed, or could not be opened */
const LINGER_MS = 5000;

export function addServeCommand(program: Command): void {
  program
    .command('serve')
    .description('run the daemon that the kubelet talks to')
    .action(async (_options: object, command: Command) => {
      const config = await configOf(command);
      const { startDaemon } = await import('./daemon.ts');
      const log = createLogger({ level: config.log.level });
      exitOnBugs(log);
      const stopped = stopSignal(log);
      log.info({ version: caissonVersion(), root: config.root, state: config.state }, 'starting');
      try {
        await using daemon = await startDaemon(config, log);
        void daemon;
        await notifySystemd(log);
        log.info({ socket: config.socket }, 'ready');
        await stopped;
      } finally {
        setTimeout(() => process.exit(), LINGER_MS).unref();
      }
      log.info({}, 'stopped');
    });
}

/** Resolves at the first SIGTERM or SIGINT; a second one ends the process at once, with its VMs still running. */
function stopSignal(log: Logger): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let asked = false;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (asked) {
      log.warn({ signal }, 'asked again: leaving at once');
      process.exit(1);
    }
    asked = true;
    log.info({ signal }, 'stopping; pods keep running');
    resolve();
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  return promise;
}

/** State is in the store and VMs outlive the daemon: after a bug a fresh start is safer than going on. */
function exitOnBugs(log: Logger): void {
  const onBug = (err: unknown): void => {
    log.error({ err }, 'unexpected error: leaving, so that a fresh daemon takes over');
    process.exit(1);
  };
  process.on('uncaughtException', onBug);
  process.on('unhandledRejection', onBug);
}

/** For Type=notify units; without systemd, nothing. */
async function notifySystemd(log: Logger): Promise<void> {
  if (process.env['NOTIFY_SOCKET'] === undefined) return;
  try {
    await run('systemd-notify', ['--ready', `--pid=${process.pid}`], { timeoutMs: 5000 });
  } catch (err) {
    log.warn({ err }, 'systemd was not told that caisson is ready');
  }
}
