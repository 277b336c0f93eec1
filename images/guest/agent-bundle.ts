import { build } from 'esbuild';
import { join } from 'node:path';
import { CaissonError } from '../../src/lib/errors.ts';

/** The programs of the agent, each with all it imports as one file; koffi's native part stays beside them. */
export async function bundlePrograms(repository: string): Promise<Record<'agent' | 'sftp', Buffer>> {
  const [agent, sftp] = await Promise.all(['main.ts', 'sftp/main.ts'].map((entry) => bundle(repository, entry)));
  if (!agent || !sftp) throw new CaissonError('internal', 'esbuild made no bundle');
  return { agent, sftp };
}

async function bundle(repository: string, entry: string): Promise<Buffer> {
  const result = await build({
    entryPoints: [join(repository, 'guest-agent/src', entry)],
    bundle: true,
    write: false,
    platform: 'node',
    target: 'node24',
    format: 'cjs',
    minifySyntax: true,
    logLevel: 'silent',
    legalComments: 'none',
    define: { 'import.meta.dirname': '__dirname' },
    external: ['koffi'],
  });
  const file = result.outputFiles[0];
  if (!file) throw new CaissonError('internal', 'esbuild made no bundle');
  return Buffer.from(file.contents);
}
