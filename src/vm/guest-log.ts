import { closeSync, constants, ftruncateSync, openSync, renameSync, write } from 'node:fs';
import type { Socket } from 'node:net';
import { promisify } from 'node:util';

const MAX_FILE_BYTES = 1024 * 1024;
const TAIL_CHARACTERS = 16 * 1024;
const TAIL_LINES = 8;

const writeTo = promisify(write);

/**
 * What the guest's kernel and agent print, from QEMU's console socket into a file. The file holds at most two times
 * 1 MiB (`guest.log` and `guest.log.1`), and the next bytes are read when the last ones are written, however much a
 * hostile guest prints.
 */
export class GuestLog implements Disposable {
  readonly #socket: Socket;
  readonly #path: string;
  #fd: number;
  #written = 0;
  #tail = '';
  readonly #watchers = new Set<() => void>();

  /** Takes the connected socket over. */
  constructor(socket: Socket, logPath: string) {
    this.#path = logPath;
    this.#fd = openLog(logPath);
    this.#socket = socket;
    socket.on('error', () => socket.destroy());
    void this.#follow();
  }

  /** Resolves when `test` holds of the log's last 16 KiB. */
  waitFor(test: (tail: string) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!test(this.#tail)) return;
        this.#watchers.delete(look);
        resolve();
      };
      this.#watchers.add(look);
      look();
    });
  }

  /** The last lines, or the first of a kernel panic's, without what a terminal would act upon. */
  tail(): string {
    const clean = this.#tail.replaceAll(/\u001B\[[0-9;]*[A-Za-z]/g, '').replaceAll(/[^\P{C}\n\t]/gu, '');
    const lines = clean.trimEnd().split('\n');
    const panic = lines.findLastIndex((line) => line.includes('Kernel panic'));
    return lines
      .slice(panic === -1 ? -TAIL_LINES : panic)
      .slice(0, TAIL_LINES)
      .join('; ');
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  async #follow(): Promise<void> {
    try {
      for await (const data of this.#socket as AsyncIterable<Buffer>) await this.#append(data);
    } catch {
      // the socket was destroyed: by our dispose, or with QEMU, whose end is told by its QMP socket
    } finally {
      closeSync(this.#fd);
    }
  }

  async #append(data: Buffer): Promise<void> {
    this.#tail = (this.#tail + data.toString('latin1')).slice(-TAIL_CHARACTERS);
    for (const look of this.#watchers) look();
    this.#written += data.length;
    await writeTo(this.#fd, data).catch(() => undefined); // a full disk costs log lines, not the pod
    if (this.#written > MAX_FILE_BYTES) this.#rotate();
  }

  #rotate(): void {
    this.#written = 0;
    try {
      renameSync(this.#path, `${this.#path}.1`);
      const next = openLog(this.#path);
      closeSync(this.#fd);
      this.#fd = next;
    } catch {
      ftruncateSync(this.#fd); // no room for another file: the bound holds all the same
    }
  }
}

function openLog(path: string): number {
  return openSync(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
}
