import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { orAborted } from '../lib/async.ts';
import { CaissonError } from '../lib/errors.ts';
import { exists, removeTree } from '../lib/files.ts';
import { createLogger } from '../telemetry/index.ts';
import { templateHome } from '../vm/template/keeper.ts';
import type { Config } from '../config/schema.ts';
import { configOf } from './context.ts';
import { note, print } from './output.ts';
import { leaveOnSignals } from './streams/leaving.ts';

/** The daemon makes the template itself; this is for doing it beforehand, and for looking. */
export function addTemplateCommand(program: Command): void {
  const template = program.command('template').description('the saved VM that pods start from as clones');
  template
    .command('build')
    .description('make it now, unless a whole one of this guest image, QEMU and machine shape is there')
    .action(async (_options: object, command: Command) => print(await build(await configOf(command))));
  template
    .command('status')
    .description('where it is')
    .action(async (_options: object, command: Command) => {
      const home = templateHome((await configOf(command)).vm.guest_image);
      print((await exists(home)) ? home : `none: there is no ${home}`);
    });
  template
    .command('remove')
    .description('delete it; the next start of a daemon makes a new one')
    .action(async (_options: object, command: Command) => {
      await removeTree(templateHome((await configOf(command)).vm.guest_image));
    });
}

async function build(config: Config): Promise<string> {
  const { openVms } = await import('../vm/index.ts');
  const { openStorage } = await import('../storage/index.ts');
  const stateDir = join(config.state, `template-${process.pid}`);
  await mkdir(config.state, { recursive: true, mode: 0o711 });
  await removeInterrupted(config.state);
  note('VM template: looking, and making one if there is none (boots a VM once)');
  using leaving = leaveOnSignals();
  try {
    const log = createLogger({ level: 'warn' });
    // not the daemon's, which may run
    const disks = await openStorage({ root: stateDir, config: config.storage, log });
    await using vms = await openVms({ config: { ...config.vm, template: true }, stateDir, disks, log });
    // a promise that is awaited does not keep Node running
    const alive = setInterval(() => undefined, 2 ** 30);
    await orAborted(vms.settled, leaving.signal).finally(() => clearInterval(alive));
    const { state, detail } = vms.template();
    if (state !== 'ready') throw new CaissonError('failed_precondition', `no VM template: ${detail}`);
    return `VM template is ready in ${detail} (${vms.accelerator()?.kind})`;
  } finally {
    await removeTree(stateDir);
  }
}

/** Of builds that were killed: their VMs, too. */
async function removeInterrupted(state: string): Promise<void> {
  const { discardUnfinished } = await import('../vm/index.ts');
  for (const name of await readdir(state)) {
    const [, pid] = /^template-(\d+)$/.exec(name) ?? [];
    if (pid === undefined || (await exists(`/proc/${pid}`))) continue;
    await discardUnfinished(join(state, name));
    await removeTree(join(state, name));
  }
}
