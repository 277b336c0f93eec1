import type { Command } from 'commander';
import { defaultTemplate, effectiveToml } from '../config/template.ts';
import { loadedConfigOf } from './context.ts';
import { print, printJson } from './output.ts';

export function addConfigCommand(program: Command): void {
  program
    .command('config')
    .description('print the configuration in effect')
    .option('--default', 'print a configuration file that explains every key instead')
    .option('--json', 'as JSON')
    .action(async (options: { default?: true; json?: true }, command: Command) => {
      if (options.default) return print(defaultTemplate());
      const { config, sources } = await loadedConfigOf(command);
      if (options.json) printJson(config);
      else print(effectiveToml(config, sources));
    });
}
