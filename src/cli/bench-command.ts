import { InvalidArgumentError, type Command } from 'commander';
import { configOf } from './context.ts';

const DEFAULT_COUNT = 3;

export function addBenchCommand(program: Command): void {
  const bench = program.command('bench').description('measure; beside containerd: npm run bench');
  bench
    .command('pod')
    .description('run pods with a daemon of its own, and show where the time of each request went')
    .option('--count <pods>', 'how many, one after the other; medians are shown', positive, DEFAULT_COUNT)
    .action(async ({ count }: { readonly count: number }, command: Command) => {
      const { runPodBench } = await import('./bench-pod.ts');
      await runPodBench(await configOf(command), count);
    });
}

function positive(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count > 0) return count;
  throw new InvalidArgumentError('It is not a number of pods.');
}
