import { createWriteStream, renameSync, type WriteStream } from 'node:fs';
import type { Socket } from 'node:net';

const MAX_FILE_BYTES = 1024 * 1024;
const TAIL_BYTES = 16 * 1024;
const TAIL_LINES = 8;

/**
 * What the guest's kernel and agent print, from QEMU's console socket into a file. The file holds at most two times
 * 1 MiB (`guest.log` and `guest.log.1`), however much a hostile guest prints.
 */
export class GuestLog implements Disposable {
  readonly #socket: Socket;
  readonly #path: string;
  #file: WriteStream;
  #written = 0;
  #tail = '';
  readonly #watchers = new Set<() => void>();

  /** Takes the connected socket over. */
  constructor(socket: Socket, logPath: string) {
    this.#path = logPath;
    this.#file = this.#openFile();
    this.#socket = socket;
    this.#socket.setEncoding('latin1');
    this.#socket.on('data', (text: string) => this.#append(text));
    this.#socket.on('error', () => this.#socket.destroy());
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

  /** The last lines, without what a terminal would act upon. */
  tail(): string {
    const clean = this.#tail.replaceAll(/\u001B\[[0-9;]*[A-Za-z]/g, '').replaceAll(/[^\P{C}\n\t]/gu, '');
    return clean.trimEnd().split('\n').slice(-TAIL_LINES).join('; ');
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
    this.#file.end();
  }

  #append(text: string): void {
    this.#tail = (this.#tail + text).slice(-TAIL_BYTES);
    this.#written += text.length;
    this.#file.write(text, 'latin1');
    if (this.#written > MAX_FILE_BYTES) this.#rotate();
    for (const look of this.#watchers) look();
  }

  #rotate(): void {
    this.#file.end();
    renameSync(this.#path, `${this.#path}.1`);
    this.#file = this.#openFile();
    this.#written = 0;
  }

  #openFile(): WriteStream {
    const file = createWriteStream(this.#path, { flags: 'a', mode: 0o600 });
    file.on('error', () => undefined); // a full disk costs log lines, not the pod
    return file;
  }
}
