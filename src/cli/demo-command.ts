import type { Command } from 'commander';
import { configOf } from './context.ts';

export function addDemoCommand(program: Command): void {
  program
    .command('demo')
    .description('run a pod in a VM, without Kubernetes, and show what happens')
    .action(async (_options: object, command: Command) => {
      const { runDemo } = await import('./demo.ts');
      await runDemo(await configOf(command));
    });
}
