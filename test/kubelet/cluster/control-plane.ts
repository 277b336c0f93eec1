import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freePort } from '../../support/registry.ts';
import { eventually } from '../../support/steps.ts';
import { makeAuthority, type Authority, type Certificate } from './certificates.ts';
import { Kubectl } from './kubectl.ts';
import { PROGRAMS, startProgram, type Program } from './programs.ts';

/** etcd and kube-apiserver on the loopback interface; no scheduler and no controllers. */
export interface ControlPlane {
  readonly authority: Authority;
  readonly etcd: Program;
  readonly apiServer: Program;
  readonly kubectl: Kubectl;
  /** Writes a kubeconfig for whoever has the certificate. */
  kubeconfig(name: string, certificate: Certificate): Promise<string>;
}

const START_TIMEOUT_MS = 300_000;

export async function startControlPlane(
  lab: AsyncDisposableStack,
  directory: string,
  signal: AbortSignal,
): Promise<ControlPlane> {
  const authority = await makeAuthority(directory);
  const [etcdPort, peerPort, port] = [await freePort(), await freePort(), await freePort()];
  const etcd = lab.use(await startEtcd(directory, etcdPort, peerPort));
  const apiServer = lab.use(await startApiServer(directory, authority, etcdPort, port));
  const kubeconfig = async (name: string, certificate: Certificate): Promise<string> => {
    const path = join(directory, `${name}.kubeconfig`);
    await writeFile(path, JSON.stringify(kubeconfigOf(port, authority, certificate))); // JSON is YAML
    return path;
  };
  const admin = await kubeconfig('admin', await authority.sign('admin', '/O=system:masters/CN=admin'));
  const kubectl = new Kubectl(admin, directory, signal);
  await eventually(
    async () => {
      for (const program of [etcd, apiServer])
        if (!program.running) throw new Error(`it has ended: ${await program.lastLines(10)}`);
      signal.throwIfAborted();
      await kubectl.ok('get', '--raw', '/readyz');
    },
    START_TIMEOUT_MS,
    500,
  );
  return { authority, etcd, apiServer, kubectl, kubeconfig };
}

async function startEtcd(directory: string, port: number, peerPort: number): Promise<Program> {
  const [client, peer] = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${peerPort}`];
  const args = [
    ...['--name', 'test', '--data-dir', join(directory, 'etcd'), '--unsafe-no-fsync', '--log-level', 'warn'],
    ...['--listen-client-urls', client, '--advertise-client-urls', client],
    ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `test=${peer}`],
  ];
  return startProgram(join(PROGRAMS, 'etcd'), args, join(directory, 'etcd.log'));
}

async function startApiServer(
  directory: string,
  authority: Authority,
  etcdPort: number,
  port: number,
): Promise<Program> {
  const server = await authority.sign('apiserver', '/CN=kube-apiserver', ['IP:127.0.0.1', 'IP:10.96.0.1']);
  const toKubelet = await authority.sign('apiserver-kubelet', '/O=system:masters/CN=kube-apiserver-kubelet-client');
  const tokens = await authority.makeKey('service-account');
  const options = {
    'etcd-servers': `http://127.0.0.1:${etcdPort}`,
    'bind-address': '127.0.0.1',
    'advertise-address': '127.0.0.1',
    'secure-port': port,
    'tls-cert-file': server.certFile,
    'tls-private-key-file': server.keyFile,
    'client-ca-file': authority.caFile,
    'kubelet-client-certificate': toKubelet.certFile,
    'kubelet-client-key': toKubelet.keyFile,
    'kubelet-preferred-address-types': 'InternalIP',
    'authorization-mode': 'Node,RBAC',
    'enable-admission-plugins': 'NodeRestriction',
    'service-cluster-ip-range': '10.96.0.0/24',
    'service-account-issuer': 'https://kubernetes.default.svc',
    'service-account-key-file': tokens.publicFile,
    'service-account-signing-key-file': tokens.privateFile,
    // it would tell every pod to talk to an address that nothing here serves
    'endpoint-reconciler-type': 'none',
    'allow-privileged': true,
    v: 2,
  };
  const args = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  return startProgram(join(PROGRAMS, 'kube-apiserver'), args, join(directory, 'apiserver.log'));
}

function kubeconfigOf(port: number, { caFile }: Authority, { certFile, keyFile }: Certificate): object {
  const server = `https://127.0.0.1:${port}`;
  return {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'test',
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
    clusters: [{ name: 'test', cluster: { server, 'certificate-authority': caFile } }],
    users: [{ name: 'test', user: { 'client-certificate': certFile, 'client-key': keyFile } }],
  };
}
