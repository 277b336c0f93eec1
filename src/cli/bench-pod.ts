import { join } from 'node:path';
import type { Config } from '../config/schema.ts';
import { CaissonError } from '../lib/errors.ts';
import { connectCri, type CriConnection } from '../lib/grpc/cri-client.ts';
import { createLogger, medianPhases, recordSpans, waterfall, type RecordedTrace } from '../telemetry/index.ts';
import { startDaemon } from './daemon.ts';
import { note, print } from './output.ts';
import { loadBusybox, makePrivatePlace } from './private-place.ts';

const IMAGE = 'caisson.bench/busybox:latest';
const SETTLE_MS = 300_000;
const POLL_MS = 100;

/** Runs `count` pods, one after the other, after one that does not count, and prints the phases of each request. */
export async function runPodBench(base: Config, count: number): Promise<void> {
  if (process.getuid?.() !== 0) throw new CaissonError('failed_precondition', 'caisson bench pod needs root');
  const interrupted = new AbortController();
  // for good: what starts programs (execa) ends this process at a signal that nobody listens to
  process.on('SIGINT', () => interrupted.abort(new CaissonError('cancelled', 'interrupted')));
  const traces: RecordedTrace[] = [];
  {
    await using stack = new AsyncDisposableStack();
    const place = stack.use(await makePrivatePlace(base, 'bench'));
    await loadBusybox(place, IMAGE);
    stack.use(await startDaemon(place.config, createLogger({ level: 'warn' })));
    const cri = connectCri(place.config.socket);
    stack.defer(() => cri.close());
    const counts = { pods: 0 };
    using recorder = recordSpans((recorded) => counts.pods > 0 && traces.push(recorded));
    void recorder;
    for (; counts.pods <= count; counts.pods++) {
      await settled(cri, interrupted.signal);
      note(counts.pods === 0 ? 'bench: a pod that does not count' : `bench: pod ${counts.pods} of ${count}`);
      await livePod(cri, join(place.directory, 'logs'), `bench-${counts.pods}`, interrupted.signal);
    }
  }
  for (const [rpc, same] of Map.groupBy(traces, ([root]) => root.name)) printPhases(rpc, same);
}

function printPhases(rpc: string, traces: readonly RecordedTrace[]): void {
  const phases = medianPhases(traces);
  print(`${rpc}: ${phases[0]?.durationMs?.toFixed(1)} ms${traces.length > 1 ? `, medians of ${traces.length}` : ''}`);
  print(`${waterfall(phases).join('\n')}\n\n`);
}

interface Background {
  readonly template: { readonly state: string };
  readonly pool: { readonly size: number; readonly ready: number; readonly reason: string };
}

/** What the daemon does in the background, as making a template or filling the pool, would be measured with the pods. */
async function settled({ runtime }: CriConnection, signal: AbortSignal): Promise<void> {
  let reason = '';
  for (const deadline = Date.now() + SETTLE_MS; Date.now() < deadline;) {
    const { info } = await runtime.Status({ verbose: true }, { signal });
    const { template, pool } = JSON.parse(info['info'] ?? '{}') as Background;
    if (template.state !== 'being made' && pool.ready >= pool.size) return;
    reason = pool.reason;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  throw new CaissonError(
    'deadline_exceeded',
    `template and pool were not ready within ${SETTLE_MS / 1000} s: ${reason}`,
  );
}

async function livePod({ runtime }: CriConnection, logs: string, name: string, signal: AbortSignal): Promise<void> {
  const sandbox_config = {
    metadata: { name, namespace: 'default', uid: name, attempt: 0 },
    hostname: name,
    log_directory: join(logs, name),
    linux: {},
  };
  const { pod_sandbox_id } = await runtime.RunPodSandbox({ config: sandbox_config }, { signal });
  try {
    const config = {
      metadata: { name: 'sleeper', attempt: 0 },
      image: { image: IMAGE },
      command: ['sleep', '1000000'],
      log_path: 'sleeper.log',
      linux: {},
    };
    const { container_id } = await runtime.CreateContainer({ pod_sandbox_id, config, sandbox_config }, { signal });
    await runtime.StartContainer({ container_id }, { signal });
    const { exit_code } = await runtime.ExecSync({ container_id, cmd: ['true'], timeout: 60 }, { signal });
    if (exit_code !== 0) throw new CaissonError('internal', `true ended with ${exit_code} in the container`);
  } finally {
    await runtime.StopPodSandbox({ pod_sandbox_id });
    await runtime.RemovePodSandbox({ pod_sandbox_id });
  }
}
