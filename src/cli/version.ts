import type { Command } from 'commander';
import { caissonVersion } from './context.ts';
import { print, printJson } from './output.ts';

export function addVersionCommand(program: Command): void {
  program
    .command('version')
    .description('print the versions of caisson and of the Node it runs on')
    .option('--json', 'as JSON')
    .action((options: { json?: true }) => {
      const versions = { caisson: caissonVersion(), node: process.versions.node };
      if (options.json) printJson(versions);
      else print(`caisson ${versions.caisson} (node ${versions.node})`);
    });
}
