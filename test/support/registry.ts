import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../src/lib/exec.ts';
import { removeTree } from '../../src/lib/files.ts';

export interface TestRegistry extends AsyncDisposable {
  /** `127.0.0.1:<port>`, plain HTTP */
  readonly host: string;
  /** where it keeps its data, for tests that tamper with it */
  readonly directory: string;
  /**
   * Pushes the only image of an OCI layout, all its platforms, as `<host>/<name>`; a name has a tag.
   * As `docker` it gets the manifest that docker made before there was OCI.
   */
  push(layout: string, name: string, format?: 'oci' | 'docker'): Promise<void>;
}

/** The credentials that a registry started with `auth` takes. */
export const REGISTRY_USER = { username: 'caisson', password: 'caisson-test' } as const;
/** bcrypt of that password; docker-registry knows no other hash, and nothing here makes one */
const HTPASSWD = 'caisson:$2y$05$abcdefghijklmnopqrstuultgIZfnaBiR1H/El5hXHH6X3EYJJB6.\n';
const START_TIMEOUT_MS = 15_000;

/** Starts Debian's docker-registry with an empty store on a free port of the loopback interface. */
export async function startRegistry(options: { readonly auth?: boolean } = {}): Promise<TestRegistry> {
  const directory = await mkdtemp(join(tmpdir(), 'caisson-registry-'));
  const host = `127.0.0.1:${await freePort()}`;
  await writeFile(join(directory, 'htpasswd'), HTPASSWD);
  await writeFile(join(directory, 'auth.json'), JSON.stringify({ auths: { [host]: { auth: basicAuth() } } }));
  const configPath = join(directory, 'config.yml');
  await writeFile(configPath, JSON.stringify(registryConfig(directory, host, options.auth === true))); // JSON is YAML
  const child = spawn('docker-registry', ['serve', configPath], { stdio: 'ignore' });
  const stop = async (): Promise<void> => {
    await stopProcess(child);
    await removeTree(directory);
  };
  try {
    await answers(host, child);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    host,
    directory,
    push: async (layout, name, format = 'oci') => {
      const asIs = format === 'oci' ? ['--all', '--preserve-digests'] : ['--format=v2s2'];
      const flags = [...asIs, '--quiet', '--dest-tls-verify=false'];
      const auth = options.auth ? [`--dest-authfile=${join(directory, 'auth.json')}`] : [];
      await run('skopeo', ['copy', ...flags, ...auth, `oci:${layout}`, `docker://${host}/${name}`]);
    },
    [Symbol.asyncDispose]: stop,
  };
}

/** A TCP port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

function registryConfig(directory: string, host: string, auth: boolean): object {
  return {
    version: '0.1',
    log: { level: 'error' },
    storage: { filesystem: { rootdirectory: join(directory, 'data') } },
    http: { addr: host },
    ...(auth && { auth: { htpasswd: { realm: 'caisson', path: join(directory, 'htpasswd') } } }),
  };
}

function basicAuth(): string {
  return Buffer.from(`${REGISTRY_USER.username}:${REGISTRY_USER.password}`).toString('base64');
}

async function answers(host: string, child: ChildProcess): Promise<void> {
  let failure: Error | undefined;
  child.once('error', (error) => (failure = error));
  for (const deadline = Date.now() + START_TIMEOUT_MS; Date.now() < deadline;) {
    if (failure) throw failure;
    if (child.exitCode !== null) throw new Error(`docker-registry ended with code ${child.exitCode}`);
    const response = await fetch(`http://${host}/v2/`).catch(() => undefined);
    if (response) return;
    await sleep(50);
  }
  throw new Error(`docker-registry did not answer within ${START_TIMEOUT_MS} ms`);
}

async function stopProcess(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
