/** All connections of the gateway. Disposal ends them. */
import type { Socket } from 'node:net';
import ssh2 from 'ssh2';
import type { Algorithms, ServerConfig } from 'ssh2';
import { describeError } from '../lib/errors.ts';
import { Connection } from './connection.ts';
import type { SshOptions } from './contracts.ts';
import type { HostKey } from './host-key.ts';
import { KeyFile } from './key-file.ts';
import { takePreamble } from './preamble.ts';

/**
 * What OpenSSH of the last years speaks. No compression: what unpacks may be huge. No ChaCha20, which OpenSSH would
 * choose: ssh2 carries half as much with it as with AES-GCM, which every such client has.
 */
const ALGORITHMS: Algorithms = {
  kex: ['curve25519-sha256', 'curve25519-sha256@libssh.org', 'ecdh-sha2-nistp256', 'ecdh-sha2-nistp384'],
  cipher: ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com', 'aes128-ctr', 'aes256-ctr'],
  hmac: ['hmac-sha2-256-etm@openssh.com', 'hmac-sha2-512-etm@openssh.com', 'hmac-sha2-256', 'hmac-sha2-512'],
  compress: ['none'],
};

export class Clients implements AsyncDisposable {
  readonly #options: SshOptions;
  readonly #config: ServerConfig;
  readonly #keys: KeyFile;
  readonly #open = new Set<Connection>();

  constructor({ privateKey }: HostKey, options: SshOptions) {
    this.#options = options;
    this.#config = { hostKeys: [privateKey], ident: 'caisson', algorithms: ALGORITHMS };
    this.#keys = new KeyFile(options.authorizedKeys, options.log);
  }

  /** `preamble`: a line with the target may come first. */
  welcome(socket: Socket, { preamble }: { readonly preamble: boolean }): void {
    const { limits, pods, acceptEnv, vmAccess } = this.#options;
    const log = this.#options.log.child({ client: socket.remoteAddress ?? 'local' });
    socket.on('error', (err) => log.debug({ err }, 'the connection of an ssh client failed'));
    if (this.#open.size >= limits.connections) {
      log.warn({ open: this.#open.size }, 'an ssh client is cut off: there are too many');
      socket.destroy();
      return;
    }
    const mayOpenChannel = (): boolean => this.#channels() < limits.channels;
    const connection = new Connection(socket, {
      ...{ limits, pods, acceptEnv, vmAccess },
      ...{ keys: this.#keys, log, mayOpenChannel },
    });
    this.#open.add(connection);
    socket.once('close', () => void connection.over().then(() => this.#open.delete(connection)));
    if (preamble) void this.#begin(connection, socket);
    else this.#speak(connection, socket, undefined);
  }

  async #begin(connection: Connection, socket: Socket): Promise<void> {
    try {
      this.#speak(connection, socket, await takePreamble(socket));
    } catch (error) {
      this.#options.log.debug({ why: describeError(error) }, 'a client of the ssh socket said nothing sensible');
      socket.destroy();
    }
  }

  #speak(connection: Connection, socket: Socket, target: string | undefined): void {
    // one each, because ssh2 does not tell which socket a client came by
    const server = new ssh2.Server(this.#config, (ssh) => connection.speak(ssh, target));
    server.injectSocket(socket);
  }

  #channels(): number {
    return this.#open.values().reduce((sum, { channels }) => sum + channels, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const open = [...this.#open];
    for (const connection of open) connection.cutOff();
    await Promise.all(open.map((connection) => connection.over()));
  }
}
