/** What people type to look at pods and to get into them; all talk to the running daemon. */
import { InvalidArgumentError, type Command } from 'commander';

const TARGET = 'POD/CONTAINER, POD if it has one container, or the start of an id';

const POD = 'its name or the start of its id';

/** What a command needs is loaded when it runs. */
export function addPodCommands(program: Command): void {
  addExec(program);
  addAttach(program);
  addPortForward(program);
  addLogs(program);
  addPs(program);
  addTop(program);
  addVerbs(program);
}

function addVerbs(program: Command): void {
  withNamespace(program.command('start'))
    .description('start a pod again that was stopped or whose VM has ended, with its addresses')
    .argument('<pod>', POD)
    .action(async (pod: string, _options: object, command: Command) => {
      const { startPod } = await import('./verbs.ts');
      await startPod(pod, command);
    });
  withNamespace(program.command('pause'))
    .description('freeze the processes of a container, or the whole VM of a pod')
    .argument('<target>', `${TARGET}; with --pod, ${POD}`)
    .option('--pod', 'the whole VM')
    .action(async (target: string, _options: object, command: Command) => {
      const { pause } = await import('./verbs.ts');
      await pause(target, command);
    });
  withNamespace(program.command('unpause'))
    .description('let a frozen container go on')
    .argument('<target>', TARGET)
    .action(async (target: string, _options: object, command: Command) => {
      const { unpause } = await import('./verbs.ts');
      await unpause(target, command);
    });
  withNamespace(program.command('resume'))
    .description('let a paused pod go on, with the right time')
    .argument('<pod>', POD)
    .action(async (pod: string, _options: object, command: Command) => {
      const { resumePod } = await import('./verbs.ts');
      await resumePod(pod, command);
    });
}

function addExec(program: Command): void {
  withNamespace(program.command('exec'))
    .description('run a command in a container, a shell if none is named; exits as the command does')
    .argument('<target>', TARGET)
    .argument('[command...]')
    .option('-i, --stdin', 'pass stdin on')
    .option('-t, --tty', 'give the command a terminal')
    .passThroughOptions()
    .action(async (target: string, words: string[], _options: object, command: Command) => {
      const { exec } = await import('./exec.ts');
      await exec(target, words[0] === '--' ? words.slice(1) : words, command);
    });
}

function addAttach(program: Command): void {
  withNamespace(program.command('attach'))
    .description("join a container's own streams; ctrl-p ctrl-q leaves it, if it has a terminal")
    .argument('<target>', TARGET)
    .option('--no-stdin', 'look on only')
    .action(async (target: string, _options: object, command: Command) => {
      const { attach } = await import('./attach.ts');
      await attach(target, command);
    });
}

function addPortForward(program: Command): void {
  withNamespace(program.command('port-forward'))
    .description("reach a pod's ports on 127.0.0.1 and ::1")
    .argument('<pod>', POD)
    .argument('<ports...>', '[LOCAL:]REMOTE; :REMOTE for a free local one')
    .action(async (pod: string, ports: string[], _options: object, command: Command) => {
      const { portForward } = await import('./port-forward.ts');
      await portForward(pod, ports, command);
    });
}

function addLogs(program: Command): void {
  withNamespace(program.command('logs'))
    .description('print what a container has written: its stdout to stdout, its stderr to stderr')
    .argument('<target>', TARGET)
    .option('-f, --follow', 'go on until the container has ended')
    .option('--tail <lines>', 'the last so many lines only', atLeast(0))
    .option('--since <when>', 'from a time on, or from so long ago, such as 10m')
    .option('-t, --timestamps', 'when each line came')
    .action(async (target: string, _options: object, command: Command) => {
      const { logs } = await import('./logs.ts');
      await logs(target, command);
    });
}

function addPs(program: Command): void {
  withNamespace(program.command('ps'))
    .description('list pods and their containers')
    .option('-a, --all', 'those, too, that have ended')
    .option('--json', 'as JSON')
    .action(async (_options: object, command: Command) => {
      const { ps } = await import('./ps.ts');
      await ps(command);
    });
}

function addTop(program: Command): void {
  withNamespace(program.command('top'), '--namespace <name>')
    .description('what the VMs of the pods use; refreshed on a terminal, else once')
    .option('-n, --iterations <count>', 'so many times', atLeast(1))
    .option('-d, --delay <seconds>', 'between them', atLeast(1), 2)
    .option('--json', 'as JSON')
    .action(async (_options: object, command: Command) => {
      const { top } = await import('./top.ts');
      await top(command);
    });
}

function withNamespace(command: Command, flags = '-n, --namespace <name>'): Command {
  return command.option(flags, 'of this namespace only');
}

function atLeast(least: number): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (/^\d+$/.test(text) && Number.isSafeInteger(number) && number >= least) return number;
    throw new InvalidArgumentError(`It is not a number from ${least} on.`);
  };
}
