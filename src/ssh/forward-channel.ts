/** A forwarded connection: `ssh -L`. */
import type { ServerChannel, TcpipRequestInfo } from 'ssh2';
import { CaissonError } from '../lib/errors.ts';
import { audit } from './audit.ts';
import { ChannelEnds } from './channel-ends.ts';
import type { Client } from './client.ts';
import { isLoopback } from './permits.ts';
import { runForward } from './run-forward.ts';
import { podOf, vmOf, type PodTarget } from './target.ts';

export interface ForwardRequest {
  /** of a message that is cut short, ssh2 leaves fields undefined */
  readonly info: Partial<TcpipRequestInfo>;
  readonly accept: () => ServerChannel | undefined;
  readonly reject: () => void;
}

/** Never rejects; returns when the connection is over. */
export async function serveForward({ info, accept, reject }: ForwardRequest, client: Client): Promise<void> {
  const { destIP = '', destPort = 0 } = info;
  const destination = `${destIP.slice(0, 300)}:${destPort}`;
  const report = audit(client.log, { channel: 'forward', target: client.target, destination });
  let pod: PodTarget | undefined;
  let ends: ChannelEnds | undefined;
  let failure: { readonly error?: unknown } = {};
  try {
    pod = podOf(client.options.pods, vmOf(client.target) ?? client.target, client.permits);
    mayForward(client, pod, destIP, destPort);
    const target = await client.options.pods.portForward(pod.sandboxId, destPort, client.gone);
    const channel = accept();
    if (!channel) {
      target.destroy();
      throw new CaissonError('cancelled', 'the client has left');
    }
    ends = new ChannelEnds(channel, client);
    await runForward(ends, target);
  } catch (error) {
    failure = { error };
  }
  if (ends) await ends.close();
  else reject();
  report(ends, { sandboxId: pod?.sandboxId, ...failure });
}

function mayForward({ permits }: Client, pod: PodTarget, host: string, port: number): void {
  const refuse = (why: string): never => {
    throw new CaissonError('permission_denied', why);
  };
  if (!permits.forwarding) refuse('this key may not forward ports');
  if (!isLoopback(host) && !pod.ips.includes(host)) refuse('connections go to the pod itself only');
  if (permits.ports && !permits.ports.has(port)) refuse(`this key may not connect to port ${port}`);
}
