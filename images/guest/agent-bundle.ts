import { build } from 'esbuild';
import { join } from 'node:path';
import { CaissonError } from '../../src/lib/errors.ts';

/** The guest agent and all it imports as one file; koffi's native part stays beside it. */
export async function bundleAgent(repository: string): Promise<Buffer> {
  const result = await build({
    entryPoints: [join(repository, 'guest-agent/src/main.ts')],
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
  if (!file) throw new CaissonError('internal', 'esbuild made no agent bundle');
  return Buffer.from(file.contents);
}
