import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { z } from 'zod';
import { withTimeout } from '../../lib/async.ts';
import { CaissonError } from '../../lib/errors.ts';
import { traced } from '../../lib/trace.ts';

/** Events are emitted under their names: `close` is ours, and an `error` that nobody listens to would throw. */
const EVENT = /^[A-Z][A-Z0-9_]*$/;

const message = z.union([
  z.object({ return: z.unknown(), id: z.number() }),
  z.object({ error: z.object({ class: z.string(), desc: z.string() }), id: z.number().optional() }),
  z.object({ event: z.string().regex(EVENT), data: z.record(z.string(), z.unknown()).optional() }),
  z.object({ QMP: z.unknown() }),
]);

interface Pending {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

const COMMAND_TIMEOUT_MS = 10_000;
const MAX_LINE_BYTES = 1024 * 1024;

/**
 * A connection to QEMU's machine protocol: commands with ids, so that answers find their callers, and events, which
 * are emitted under their names (`DEVICE_DELETED`) with their data. Emits `close` once when QEMU is gone, also when it says
 * what no QEMU does: then a guest has broken it.
 */
export class QmpClient extends EventEmitter {
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  readonly #greeting = Promise.withResolvers<void>();
  #buffer = '';
  #nextId = 1;
  #closed = false;

  private constructor(socket: Socket) {
    super();
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#receive(text));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#close());
    this.#greeting.promise.catch(() => undefined);
  }

  /** Takes the connected socket over. */
  static async connect(socket: Socket): Promise<QmpClient> {
    const client = new QmpClient(socket);
    try {
      await withTimeout(client.#greeting.promise, COMMAND_TIMEOUT_MS, "QEMU's greeting on its QMP socket");
      await client.execute('qmp_capabilities');
      return client;
    } catch (error) {
      client.close();
      throw error;
    }
  }

  /** Throws `internal` with QEMU's words, `deadline_exceeded`, or `unavailable` when QEMU is gone. */
  async execute(command: string, args: Record<string, unknown> = {}): Promise<unknown> {
    if (this.#closed) throw gone(command);
    const id = this.#nextId++;
    const answer = new Promise<unknown>((resolve, reject) => this.#pending.set(id, { command, resolve, reject }));
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    try {
      return await traced(`QMP ${command}`, () =>
        withTimeout(answer, COMMAND_TIMEOUT_MS, `QEMU's answer to ${command}`),
      );
    } finally {
      this.#pending.delete(id);
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(text: string): void {
    this.#buffer += text;
    const lines = this.#buffer.split('\n');
    this.#buffer = lines.pop() ?? '';
    for (const line of lines) this.#dispatch(line);
    // QEMU is the cage, but a guest may have broken it: it gets no more memory than this
    if (this.#buffer.length > MAX_LINE_BYTES) this.#socket.destroy();
  }

  #dispatch(line: string): void {
    const parsed = message.safeParse(parseJson(line));
    if (!parsed.success) return void this.#socket.destroy();
    const value = parsed.data;
    if ('QMP' in value) this.#greeting.resolve();
    else if ('event' in value) this.emit(value.event, value.data ?? {});
    else if ('error' in value) this.#fail(value.id, value.error.desc);
    else this.#pending.get(value.id)?.resolve(value.return);
  }

  #fail(id: number | undefined, words: string): void {
    const pending = id === undefined ? undefined : this.#pending.get(id);
    pending?.reject(new CaissonError('internal', `QEMU refused ${pending.command}: ${words}`));
  }

  #close(): void {
    this.#closed = true;
    this.#greeting.reject(gone('the greeting'));
    for (const { command, reject } of this.#pending.values()) reject(gone(command));
    this.emit('close');
  }
}

const gone = (command: string): CaissonError =>
  new CaissonError('unavailable', `QEMU is gone (${command} got no answer)`);

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined; // no message matches it
  }
}
