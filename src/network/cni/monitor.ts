import { CaissonError, describeError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import type { NetworkStatus } from '../contracts.ts';
import { statusChain } from './chain.ts';
import { findPlugin, loadConfig } from './config.ts';
import type { LoadedConfig } from './config.ts';
import type { CniNetwork, PluginRunner } from './types.ts';
import { watchDirectory } from './watch.ts';

/** `ms` after which an answer is looked up again, in the background, when somebody asks for it. */
const STALE_WHEN_READY_MS = 30_000;
const STALE_WHEN_NOT_READY_MS = 2000;

/** The CNI configuration in force and the health of its plugins, kept in memory. */
export interface CniMonitor extends Disposable {
  /** Never blocks; an old answer is renewed in the background. */
  status(): NetworkStatus;
  /** Throws `unavailable` with what `status` says when there is no configuration, after having looked again. */
  network(): Promise<CniNetwork>;
}

export async function startMonitor(confDir: string, runner: PluginRunner, log: Logger): Promise<CniMonitor> {
  let config: LoadedConfig = { skipped: [], problem: 'the CNI configuration is not loaded yet' };
  let health: NetworkStatus = notReady(config.problem ?? '');
  let probedAt = 0;
  let probing: Promise<void> | undefined;
  const closing = new AbortController();

  const reload = async (): Promise<void> => {
    const loaded = await loadConfig(confDir);
    if (JSON.stringify(loaded) === JSON.stringify(config)) return;
    config = loaded;
    logConfig(log, loaded);
    const answered = loaded.network && loaded.network.cniVersion !== '1.1.0';
    health = answered ? { ready: true } : notReady(loaded.problem ?? 'the CNI plugins have not answered STATUS yet');
    probedAt = 0;
  };
  const probe = async (): Promise<void> => {
    const { network } = config;
    if (!network) return;
    const answer = await probeNetwork(runner, network, closing.signal);
    if (config.network === network) health = answer;
  };
  const refresh = async (): Promise<void> => {
    await reload();
    // one at a time: STATUS of a stuck plugin must not pile up
    probing ??= probe().finally(() => {
      probedAt = performance.now();
      probing = undefined;
    });
  };
  const refreshInBackground = (): void => {
    refresh().catch((error: unknown) => log.error({ err: error }, 'cannot refresh the CNI status'));
  };

  const watcher = watchDirectory(confDir, refreshInBackground);
  await refresh();
  return {
    status: () => {
      const staleAfter = health.ready ? STALE_WHEN_READY_MS : STALE_WHEN_NOT_READY_MS;
      if (!probing && performance.now() - probedAt > staleAfter) refreshInBackground();
      return health;
    },
    network: async () => {
      if (!config.network) await reload();
      if (config.network) return config.network;
      throw new CaissonError('unavailable', config.problem ?? 'no CNI configuration');
    },
    [Symbol.dispose]: () => {
      watcher[Symbol.dispose]();
      closing.abort();
    },
  };
}

async function probeNetwork(runner: PluginRunner, network: CniNetwork, signal: AbortSignal): Promise<NetworkStatus> {
  try {
    for (const plugin of network.plugins) await findPlugin(plugin.type, runner.binDirs);
    await statusChain(runner, network, signal);
    return { ready: true };
  } catch (error) {
    return notReady(`${network.source}: ${describeError(error)}`);
  }
}

function notReady(message: string): NetworkStatus {
  return { ready: false, reason: 'NetworkPluginNotReady', message };
}

function logConfig(log: Logger, { network, problem, skipped }: LoadedConfig): void {
  for (const { file, reason } of skipped) log.warn({ file, reason }, 'CNI configuration skipped');
  if (network) log.info({ file: network.source, network: network.name }, 'CNI configuration loaded');
  else log.warn({}, problem ?? 'no CNI configuration');
}
