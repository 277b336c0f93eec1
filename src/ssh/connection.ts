/** One client from its connection to its end. */
import type { Socket } from 'node:net';
import type { AuthContext, Connection as Ssh, ServerChannel, Session, TcpipRequestInfo } from 'ssh2';
import { describeError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { decide } from './authenticate.ts';
import type { AuthorizedKey } from './authorized-keys.ts';
import type { Client } from './client.ts';
import type { SshOptions } from './contracts.ts';
import { serveForward } from './forward-channel.ts';
import type { KeyFile } from './key-file.ts';
import { serveSession } from './session-channel.ts';

export interface ConnectionOptions extends Pick<SshOptions, 'acceptEnv' | 'limits' | 'pods' | 'vmAccess'> {
  readonly keys: KeyFile;
  /** names the client */
  readonly log: Logger;
  /** whether the gateway as a whole may have one more channel */
  readonly mayOpenChannel: () => boolean;
}

const MAX_NAME_CHARS = 400;

export class Connection {
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  readonly #gone = new AbortController();
  readonly #grace: NodeJS.Timeout;
  readonly #channels = new Set<Promise<void>>();
  #refused = 0;
  /** as whom it wants to get in, until it is */
  #candidate: string | undefined;

  constructor(socket: Socket, options: ConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    // each channel may wait for it
    socket.setMaxListeners(0);
    this.#grace = setTimeout(() => this.#breakOff('it has not logged in in time'), options.limits.loginGraceMs);
    socket.once('close', () => {
      clearTimeout(this.#grace);
      this.#gone.abort();
      if (this.#refused > 0 && this.#candidate !== undefined)
        options.log.info({ user: this.#candidate, tries: this.#refused }, 'ssh client refused');
    });
  }

  /** How many are open. */
  get channels(): number {
    return this.#channels.size;
  }

  /** Resolves when everything that the client had opened has ended; after `cutOff`, or when the client has left. */
  async over(): Promise<void> {
    await Promise.all(this.#channels);
  }

  cutOff(): void {
    this.#socket.destroy();
  }

  /** The client has said that it speaks SSH. `target` is meant whatever its user name is. */
  speak(ssh: Ssh, target: string | undefined): void {
    ssh.on('error', (err: Error) => {
      this.#options.log.debug({ err }, 'the connection of an ssh client failed');
      this.#socket.destroySoon();
    });
    ssh.on('ready', () => clearTimeout(this.#grace));
    ssh.on('authentication', (context) => {
      this.#authenticate(ssh, context, target).catch((error: unknown) => this.#breakOff(describeError(error)));
    });
  }

  async #authenticate(ssh: Ssh, context: AuthContext, target: string | undefined): Promise<void> {
    const { limits, keys, log } = this.#options;
    const user = context.username.slice(0, MAX_NAME_CHARS);
    this.#candidate = user;
    const decision = await decide(context, keys);
    if (this.#gone.signal.aborted) return;
    // without a signature all that is said is that the key would do
    if (decision === 'known') return context.accept();
    if (decision === 'refused') {
      // every client asks first what there is
      if (context.method !== 'none') this.#refused++;
      if (this.#refused < limits.authTries) return context.reject(['publickey']);
      log.warn({ tries: this.#refused }, 'closing the connection of an ssh client: it has tried too many keys');
      ssh.end();
      return this.#socket.destroySoon();
    }
    this.#candidate = undefined;
    this.#serve(ssh, target ?? user, decision.proved);
    log.info({ ...named(decision.proved), user, ...(target !== undefined && { target }) }, 'ssh client let in');
    context.accept();
  }

  /** From now on the client can open channels. */
  #serve(ssh: Ssh, target: string, key: AuthorizedKey): void {
    const { log, pods, acceptEnv, vmAccess } = this.#options;
    const client: Client = {
      target,
      permits: key.permits,
      options: { pods, acceptEnv, vmAccess },
      log: log.child(named(key)),
      socket: this.#socket,
      gone: this.#gone.signal,
      fail: (why) => this.#breakOff(why),
    };
    ssh.on('session', (accept: () => Session | undefined, reject) => {
      const session = this.#mayOpen() ? accept() : reject();
      if (session) this.#track(serveSession(session, client));
    });
    ssh.on('tcpip', (accept: () => ServerChannel | undefined, reject, info: TcpipRequestInfo) => {
      if (this.#mayOpen()) this.#track(serveForward({ info, accept, reject }, client));
      else reject();
    });
  }

  #mayOpen(): boolean {
    const { limits, log, mayOpenChannel } = this.#options;
    if (this.channels < limits.channelsPerConnection && mayOpenChannel()) return true;
    log.warn({ open: this.channels }, 'a channel is refused to an ssh client: there are too many');
    return false;
  }

  #track(serving: Promise<void>): void {
    this.#channels.add(serving);
    void serving.finally(() => this.#channels.delete(serving));
  }

  #breakOff(why: string): void {
    this.#options.log.warn({ why }, 'closing the connection of an ssh client');
    this.#socket.destroy();
  }
}

const named = ({ fingerprint, comment }: AuthorizedKey) => ({ key: fingerprint, keyComment: comment });
