import type { Command } from 'commander';
import { run } from '../lib/exec.ts';
import type { Logger } from '../lib/logger.ts';
import { createLogger, phasesOf, recordSpans, waterfall } from '../telemetry/index.ts';
import type { RecordedTrace } from '../telemetry/index.ts';
import { caissonVersion, configOf } from './context.ts';
import { note } from './output.ts';

/** `ms` that leftovers may keep the process alive when everything was disposed, or could not be opened */
const LINGER_MS = 5000;

export function addServeCommand(program: Command): void {
  program
    .command('serve')
    .description('run the daemon that the kubelet talks to')
    .option('--trace-phases', 'log for each request where its time went')
    .action(async ({ tracePhases = false }: { readonly tracePhases?: boolean }, command: Command) => {
      const config = await configOf(command);
      const { startDaemon } = await import('./daemon.ts');
      const log = createLogger({ level: config.log.level });
      exitOnBugs(log);
      const stopped = stopSignal(log);
      log.info({ version: caissonVersion(), root: config.root, state: config.state }, 'starting');
      using recorder = tracePhases ? recordSpans((recorded) => logPhases(log, recorded)) : undefined;
      void recorder;
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

/** A table for people, one entry for programs that read the log. */
function logPhases(log: Logger, recorded: RecordedTrace): void {
  const [{ name: rpc, attributes }] = recorded;
  const phases = phasesOf(recorded);
  if (process.stderr.isTTY) {
    note(waterfall(phases).join('\n'));
    return;
  }
  const rounded = (ms: number | undefined): number | undefined => ms && Math.round(ms * 10) / 10;
  const rows = phases.map(({ name, depth, offsetMs, durationMs }) => {
    return { phase: name, depth, startMs: rounded(offsetMs), durationMs: rounded(durationMs) };
  });
  log.info({ rpc, ...attributes, phases: rows }, `phases of ${rpc}`);
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
