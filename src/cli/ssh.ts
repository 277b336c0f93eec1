import type { Command } from 'commander';
import { configOf } from './context.ts';
import { note, print } from './output.ts';
import { placesOf } from './places.ts';

export function addSshCommands(program: Command): void {
  program
    .command('ssh-proxy [host]')
    .description("join standard input and output to the daemon's ssh gateway; for ProxyCommand")
    .option('--gateway <socket>', 'instead of the one of the configuration')
    .action(async (host: string | undefined, options: { readonly gateway?: string }, command: Command) => {
      const { proxySsh } = await import('./ssh-proxy.ts');
      await proxySsh(options.gateway ?? placesOf(await configOf(command)).ssh.socket, host);
    });
  const ssh = program.command('ssh').description("people's way into containers by ssh");
  ssh
    .command('setup')
    .description('let a key of yours in, and teach ssh the way: then `ssh container.pod.namespace.caisson`')
    .option('--key <file>', 'private key; one is made if it is not there (default: ~/.ssh/caisson_ed25519)')
    .option('--options <options>', 'restrictions of the key, such as pods="dev/*",no-pty')
    .action(async (options: { readonly key?: string; readonly options?: string }, command: Command) => {
      const { setUpSsh } = await import('./ssh-setup.ts');
      for (const line of await setUpSsh(await configOf(command), options)) print(line);
      if (!(await configOf(command)).ssh.enabled)
        note('the gateway is off: set `enabled = true` in [ssh] of the configuration, and restart the daemon');
    });
}
