import { strictEqual } from 'node:assert/strict';
import type { ConnectConfig } from 'ssh2';
import { CaissonError } from '../../src/lib/errors.ts';
import { parseAuthorizedKeys } from '../../src/ssh/authorized-keys.ts';
import { mayEnter, permitsOf, type Permits } from '../../src/ssh/permits.ts';
import { containerOf, podOf } from '../../src/ssh/target.ts';
import {
  fakeLists,
  login,
  makeKey,
  startLogin,
  run,
  startGateway,
  type FakePod,
  type TestGateway,
} from '../support/ssh/gateway.ts';
import { echoStreams } from '../support/streaming/echo-streams.ts';
import { countingLogger } from '../support/streaming/server.ts';
import type { Random } from './random.ts';
import { damageMessages, doAnything, loggedIn } from './ssh-client.ts';
import type { FuzzTarget } from './target.ts';

const PARTS = [
  'a',
  'b',
  'web',
  'web-0',
  'x.y',
  'default',
  'prod',
  'vm:',
  '.',
  '..',
  '/',
  '*',
  '\0',
  '\n',
  'é',
  '%s',
  '-',
  '',
];
const PATTERNS = ['default/*', 'prod/web', '*/*', '*/web*', 'default/x.y', 'a/b'];
/** a whole login is slow */
const LOGIN_EVERY = 10;

/**
 * Names of pods and of whom a client wants, pieced together and damaged: what is found is what was meant, and never what
 * a key may not enter. Lines of the file of keys. Now and then a client of a real gateway, some of them with damaged
 * messages, from the beginning or once they are let in.
 */
export async function openSshTarget(): Promise<FuzzTarget> {
  const { log } = countingLogger();
  const streams = echoStreams();
  let pods: FakePod[] = [];
  const current = (): ReturnType<typeof fakeLists> => fakeLists(pods);
  const gateway: TestGateway = await startGateway({
    // looked up anew each time
    streams: {
      ...streams,
      sandboxes: (filter: object) => current().sandboxes(filter),
      containers: () => current().containers(),
    },
    log,
    // a client that is stuck is cut off
    limits: { loginGraceMs: 1000 },
  });
  const counts = { found: 0, refused: 0, logins: 0 };
  return {
    run: async (random) => {
      pods = somePods(random);
      const permits = permitsOf(random.once(2) ? [] : [{ name: 'pods', value: random.pick(PATTERNS) }]);
      const name = someName(random, pods);
      for (const find of [containerOf, podOf]) {
        try {
          judge(name, find(current(), name, permits), permits, pods);
          counts.found++;
        } catch (error) {
          if (!(error instanceof CaissonError)) throw error;
          strictEqual(error.message.length < 4096, true);
          counts.refused++;
        }
      }
      parseAuthorizedKeys(someLine(random));
      if (!random.once(LOGIN_EVERY)) return;
      const username = name === '' ? 'x' : name;
      const config = { port: gateway.gateway.port ?? 0, privateKey: gateway.key.privateKey, username };
      await (random.once(4) ? goodClient(config) : strangeClient(config, random));
      counts.logins++;
      // the server learns of it a moment later
      for (let i = 0; i < 2000 && streams.open() > 0; i++) await new Promise(setImmediate);
      strictEqual(streams.open(), 0, 'sessions or connections are left open');
    },
    summary: () => `${counts.found} found, ${counts.refused} refused, ${counts.logins} logins`,
    [Symbol.asyncDispose]: () => gateway[Symbol.asyncDispose](),
  };
}

async function goodClient(config: ConnectConfig): Promise<void> {
  const client = await login(config);
  await run(client, 'true');
  client.end();
}

async function strangeClient(config: ConnectConfig, random: Random): Promise<void> {
  const client = startLogin(config);
  const fromTheBeginning = random.once(3);
  if (fromTheBeginning) damageMessages(client, random);
  if (!(await loggedIn(client))) return;
  if (!fromTheBeginning) damageMessages(client, random);
  await doAnything(client, random);
}

/** What was found is of that name, or of that id, alone, and may be entered. */
function judge(
  name: string,
  found: { readonly sandboxId: string; readonly containerId?: string },
  permits: Permits,
  pods: readonly FakePod[],
): void {
  const { sandboxId, containerId } = found;
  const pod = pods.find(({ id }) => id === sandboxId);
  const { namespace = 'default', name: podName = '', containers = {} } = pod ?? {};
  strictEqual(mayEnter(permits, { namespace, name: podName }), true, 'a pod that the key may not enter');
  const boxes = Object.entries(containers).filter(([, id]) => containerId === undefined || id === containerId);
  const names = [`${podName}.${namespace}`, ...boxes.map(([box]) => `${box}.${podName}.${namespace}`)];
  const ids = [sandboxId, ...boxes.map(([, id]) => id)];
  const meant = name.includes('.') ? names.includes(name) : name.length >= 4 && ids.some((id) => id.startsWith(name));
  strictEqual(meant, true, `${JSON.stringify(name)} has found ${names.join(', ')}`);
}

function somePods(random: Random): FakePod[] {
  return Array.from({ length: random.below(5) }, () => {
    const containers = Array.from({ length: random.below(4) }, () => [random.pick(['a', 'b', 'web']), someId(random)]);
    return {
      name: random.pick(['web', 'web-0', 'x.y', 'a']),
      namespace: random.pick(['default', 'prod', 'a']),
      id: someId(random),
      containers: Object.fromEntries(containers) as Record<string, string>,
    };
  });
}

const someId = (random: Random): string =>
  Array.from({ length: 64 }, (_, i) => (i < 4 ? random.below(2) : random.below(16)).toString(16)).join('');

function someName(random: Random, pods: readonly FakePod[]): string {
  if (random.once(3) || pods.length === 0)
    return Array.from({ length: random.below(6) }, () => random.pick(PARTS)).join(random.pick(['', '.']));
  const { name, namespace = 'default', id, containers } = random.pick(pods);
  const boxes = Object.entries(containers);
  const [box = 'a', boxId = id] = boxes.length > 0 ? random.pick(boxes) : [];
  const good = random.pick([
    `${name}.${namespace}`,
    `${box}.${name}.${namespace}`,
    id.slice(0, random.below(64)),
    boxId.slice(0, 4 + random.below(8)),
  ]);
  return random.once(3) ? random.damaged(Buffer.from(good)).toString('latin1') : good;
}

const { publicKey } = makeKey();

function someLine(random: Random): string {
  const options = random.pick(['', 'pods="a/b" ', 'no-pty,permitopen="localhost:1" ', 'restrict,pods="*/*",pty ']);
  return random.damaged(Buffer.from(`${options}${publicKey} comment`)).toString('latin1');
}
