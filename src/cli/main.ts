import { Command, CommanderError } from 'commander';
import { addBenchCommand } from './bench-command.ts';
import { isErrno } from '../lib/errors.ts';
import { addConfigCommand } from './config.ts';
import { addGlobalOptions } from './context.ts';
import { addDemoCommand } from './demo-command.ts';
import { addDoctorCommand } from './doctor.ts';
import { addImageCommand } from './image.ts';
import { printError } from './output.ts';
import { addPodCommands } from './pods/index.ts';
import { addServeCommand } from './serve.ts';
import { addSshCommands } from './ssh.ts';
import { addTemplateCommand } from './template.ts';
import { addVersionCommand } from './version.ts';

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;
/** as a shell says it: 128 + SIGPIPE */
const EXIT_BROKEN_PIPE = 141;

// modes are set where they matter; a tighter mask would lock the VMs' users out of their own files
process.umask(0o022);
// nobody reads any more, as behind `| head`
process.stdout.on('error', (error) => process.exit(isErrno(error, 'EPIPE') ? EXIT_BROKEN_PIPE : EXIT_FAILURE));
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
    // so that exec can hand its command's options on
    .enablePositionalOptions()
    .addHelpText('after', '\nFirst steps: caisson doctor, then caisson demo.');
  addGlobalOptions(program);
  addServeCommand(program);
  addPodCommands(program);
  addDoctorCommand(program);
  addDemoCommand(program);
  addBenchCommand(program);
  addImageCommand(program);
  addTemplateCommand(program);
  addSshCommands(program);
  addConfigCommand(program);
  addVersionCommand(program);
  acceptGlobalOptionsBehind(program);
  return program;
}

/** With positional options a command knows those in front of it no more. */
function acceptGlobalOptionsBehind(command: Command): void {
  for (const inner of command.commands) {
    addGlobalOptions(inner, { hidden: true });
    acceptGlobalOptionsBehind(inner);
  }
}
