import { match, strictEqual } from 'node:assert/strict';
import { eventually } from '../../support/steps.ts';
import { freePort } from '../../support/registry.ts';
import { container, inPod, pod, WAIT, waitReady, withPod, type World } from '../world.ts';

/** What the kubelet asks of a pod's network. */
export async function network({ steps, kubectl }: World): Promise<void> {
  const hostPort = await freePort();
  const serve = `mkdir /tmp/www; echo page >/tmp/www/page; httpd -p 80 -h /tmp/www; ${WAIT}`;
  const spec = {
    dnsPolicy: 'None',
    dnsConfig: { nameservers: ['192.0.2.53'], searches: ['test.example'], options: [{ name: 'ndots', value: '2' }] },
    hostAliases: [{ ip: '192.0.2.7', hostnames: ['seven.example'] }],
    hostname: 'named',
    subdomain: 'sub',
    shareProcessNamespace: true,
    containers: [
      container('server', serve, { ports: [{ containerPort: 80, hostPort }] }),
      container('neighbour', WAIT),
    ],
  };
  await withPod(kubectl, pod('connected', spec), async () => {
    await steps.need('a pod with a port of the node, names and servers of its own', () =>
      waitReady(kubectl, 'connected'),
    );
    await steps.check('the page comes through the port of the node', async () => {
      const get = async () => (await fetch(`http://127.0.0.1:${hostPort}/page`)).text();
      strictEqual(await eventually(get), 'page\n');
    });
    await steps.check('one container reaches the other on the pod’s loopback', async () => {
      const command = ['wget', '-qO-', 'http://127.0.0.1/page'];
      strictEqual(await kubectl.ok('exec', 'connected', '-c', 'neighbour', '--', ...command), 'page');
    });
    await steps.check('resolv.conf and hosts are as asked for', async () => {
      const resolv = await inPod(kubectl, 'connected', 'cat', '/etc/resolv.conf');
      strictEqual(resolv, 'search test.example\nnameserver 192.0.2.53\noptions ndots:2');
      const hosts = await inPod(kubectl, 'connected', 'cat', '/etc/hosts');
      match(hosts, /^192\.0\.2\.7\s+seven\.example$/m);
      strictEqual(await inPod(kubectl, 'connected', 'hostname'), 'named');
    });
    await steps.check('shareProcessNamespace: one container sees the other’s processes', async () => {
      const list = await kubectl.ok('exec', 'connected', '-c', 'neighbour', '--', 'ps');
      match(list, /httpd -p 80/);
    });
  });
}
