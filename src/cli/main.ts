import { Command, CommanderError } from 'commander';
import { addBenchCommand } from './bench-command.ts';
import { addConfigCommand } from './config.ts';
import { addGlobalOptions } from './context.ts';
import { addDemoCommand } from './demo-command.ts';
import { addDoctorCommand } from './doctor.ts';
import { addImageCommand } from './image.ts';
import { printError } from './output.ts';
import { addServeCommand } from './serve.ts';
import { addTemplateCommand } from './template.ts';
import { addVersionCommand } from './version.ts';

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

// modes are set where they matter; a tighter mask would lock the VMs' users out of their own files
process.umask(0o022);
process.exitCode = await main(process.argv);

async function main(argv: readonly string[]): Promise<number> {
  const program = buildProgram();
  try {
    await program.parseAsync(argv);
    return Number(process.exitCode ?? 0);
  } catch (error) {
    // commander has already said what was wrong with the command line
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
    printError(error);
    return EXIT_FAILURE;
  }
}

function buildProgram(): Command {
  const program = new Command('caisson')
    .description('A CRI runtime that runs every Kubernetes pod in its own QEMU/KVM virtual machine')
    .showSuggestionAfterError()
    .exitOverride()
    .addHelpText('after', '\nFirst steps: caisson doctor, then caisson demo.');
  addGlobalOptions(program);
  addServeCommand(program);
  addDoctorCommand(program);
  addDemoCommand(program);
  addBenchCommand(program);
  addImageCommand(program);
  addTemplateCommand(program);
  addConfigCommand(program);
  addVersionCommand(program);
  return program;
}
