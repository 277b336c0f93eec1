import type { Command } from 'commander';
import type { Config } from '../config/schema.ts';
import { describeError } from '../lib/errors.ts';
import { configOf } from './context.ts';
import type { Check, Finding, Status } from './doctor/check.ts';
import { hostChecks } from './doctor/host.ts';
import { networkChecks } from './doctor/network.ts';
import { vmChecks } from './doctor/vm.ts';
import { coloured, print, printJson } from './output.ts';

export interface Result extends Finding {
  readonly name: string;
  readonly why: string;
}

export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('check everything that pods need of this host, and say how to mend what is missing')
    .option('--json', 'as JSON')
    .action(async (options: { json?: true }, command: Command) => {
      const results = await diagnose(await configOf(command));
      if (options.json) printJson(results);
      else report(results);
      if (results.some(({ status }) => status === 'fail')) process.exitCode = 1;
    });
}

/** All checks at once; one that cannot even be made is a failure of its own and hides no other. */
export async function diagnose(
  config: Config,
  checks: readonly Check[] = [...hostChecks, ...vmChecks, ...networkChecks],
): Promise<Result[]> {
  return Promise.all(
    checks.map(async (check) => {
      const { name, why } = check;
      try {
        return { name, why, ...(await check.find(config)) };
      } catch (error) {
        return {
          name,
          why,
          status: 'fail',
          message: `cannot be checked: ${describeError(error)}`,
          fix: `look into ${name}`,
        };
      }
    }),
  );
}

function report(results: readonly Result[]): void {
  const width = Math.max(...results.map(({ name }) => name.length));
  for (const { name, why, status, message, fix } of results) {
    print(`${coloured(status, status.padEnd(4))}  ${name.padEnd(width)}  ${message}`);
    if (status === 'ok') continue;
    print(`${' '.repeat(6)}why: ${why}`);
    if (fix !== undefined) print(`${' '.repeat(6)}fix: ${fix}`);
  }
  print(`\n${summary(results)}`);
}

function summary(results: readonly Result[]): string {
  const count = (status: Status): number => results.filter((result) => result.status === status).length;
  const numbers = `${count('ok')} ok, ${count('warn')} to look at, ${count('fail')} missing.`;
  if (count('fail') > 0) return `${numbers} Mend what is missing, then run caisson doctor again.`;
  return `${numbers} This host can run pods: try caisson demo.`;
}
