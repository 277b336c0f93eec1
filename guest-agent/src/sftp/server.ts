/** An SFTP server, version 3 with OpenSSH's extensions: bytes in, bytes out. */
import fs from 'node:fs';
import { attributes, longName, readAttributes } from './attributes.ts';
import { change, changeOpen, makeDirectory, openFile, realPath, renameOnto } from './files.ts';
import { Handles, MAX_HANDLES } from './handles.ts';
import { BadPacket, byte, Fields, MAX_PACKET_BYTES, packet, PacketCutter, string, uint32, uint64 } from './packets.ts';

const VERSION = 3;
const INIT = 1;
const EXTENDED = 200;
const Answer = { version: 2, status: 101, handle: 102, data: 103, name: 104, attributes: 105, extended: 201 } as const;
const Status = {
  ok: 0,
  endOfFile: 1,
  noSuchFile: 2,
  permissionDenied: 3,
  failure: 4,
  badMessage: 5,
  unsupported: 8,
} as const;

/** what fits a packet beside its head */
const MAX_DATA_BYTES = MAX_PACKET_BYTES - 1024;
const NAMES_AT_ONCE = 100;

/** A message's body. */
type Reply = readonly Buffer[];

export interface SftpOptions {
  /** what `~` stands for */
  readonly home: string;
}

export class SftpServer {
  readonly #home: string;
  readonly #handles = new Handles();
  readonly #cutter = new PacketCutter();
  #begun = false;

  constructor({ home }: SftpOptions) {
    this.#home = home;
  }

  /** What to answer to more of what the client says. Throws BadPacket when it does not speak SFTP. */
  *take(chunk: Buffer): Generator<Buffer> {
    for (const message of this.#cutter.push(chunk)) yield this.#answer(new Fields(message));
  }

  close(): void {
    this.#handles.closeAll();
  }

  #answer(fields: Fields): Buffer {
    const type = fields.byte();
    if (!this.#begun) {
      if (type !== INIT) throw new BadPacket('the first packet is no greeting');
      this.#begun = true;
      return greeting();
    }
    const id = fields.uint32();
    const [kind, ...body] = this.#reply(type, fields);
    return kind ? packet(kind, uint32(id), ...body) : packet();
  }

  /** The type of the answer, then its fields. */
  #reply(type: number, fields: Fields): Reply {
    try {
      const operation = this.#operations[type];
      return operation ? operation(fields) : status(Status.unsupported, 'this is not offered');
    } catch (error) {
      if (error instanceof BadPacket || !(error instanceof Error)) throw error;
      return status(statusOf(error), error.message);
    }
  }

  /** by the type of the request */
  readonly #operations: Readonly<Record<number, (fields: Fields) => Reply>> = {
    3: (fields) => {
      const path = fields.bytes();
      const flags = fields.uint32();
      const fd = openFile(path, flags, readAttributes(fields));
      return [byte(Answer.handle), string(this.#handles.add({ kind: 'file', fd }))];
    },
    4: (fields) => done(() => this.#handles.close(fields.bytes())),
    5: (fields) => read(this.#handles.file(fields.bytes()), fields.uint64(), fields.uint32()),
    6: (fields) => done(() => write(this.#handles.file(fields.bytes()), fields.uint64(), fields.bytes())),
    7: (fields) => [byte(Answer.attributes), attributes(fs.lstatSync(fields.bytes()))],
    8: (fields) => [byte(Answer.attributes), attributes(fs.fstatSync(this.#handles.file(fields.bytes())))],
    9: (fields) => done(() => change(fields.bytes(), readAttributes(fields), true)),
    10: (fields) => done(() => changeOpen(this.#handles.file(fields.bytes()), readAttributes(fields))),
    11: (fields) => {
      const path = Buffer.from(fields.bytes()); // kept
      const directory = openDirectory(path);
      return [byte(Answer.handle), string(this.#handles.add({ kind: 'directory', directory, path }))];
    },
    12: (fields) => list(this.#handles.directory(fields.bytes())),
    13: (fields) => done(() => fs.unlinkSync(fields.bytes())),
    14: (fields) => done(() => makeDirectory(fields.bytes(), readAttributes(fields))),
    15: (fields) => done(() => fs.rmdirSync(fields.bytes())),
    16: (fields) => name(realPath(fields.bytes())),
    17: (fields) => [byte(Answer.attributes), attributes(fs.statSync(fields.bytes()))],
    18: (fields) => done(() => renameOnto(fields.bytes(), fields.bytes())),
    19: (fields) => name(fs.readlinkSync(fields.bytes(), { encoding: 'buffer' })),
    // the link's own path comes last, as in OpenSSH and against the draft
    20: (fields) => done(() => fs.symlinkSync(fields.bytes(), fields.bytes())),
    [EXTENDED]: (fields) => {
      const extension = this.#extensions[fields.bytes().toString('latin1')];
      return extension ? extension(fields) : status(Status.unsupported, 'this is not offered');
    },
  };

  readonly #extensions: Readonly<Record<string, (fields: Fields) => Reply>> = {
    'posix-rename@openssh.com': (fields) => done(() => fs.renameSync(fields.bytes(), fields.bytes())),
    'hardlink@openssh.com': (fields) => done(() => fs.linkSync(fields.bytes(), fields.bytes())),
    'fsync@openssh.com': (fields) => done(() => fs.fsyncSync(this.#handles.file(fields.bytes()))),
    'lsetstat@openssh.com': (fields) => done(() => change(fields.bytes(), readAttributes(fields), false)),
    'statvfs@openssh.com': (fields) => fileSystem(fields.bytes()),
    'limits@openssh.com': () => [
      byte(Answer.extended),
      ...[MAX_PACKET_BYTES, MAX_DATA_BYTES, MAX_DATA_BYTES, MAX_HANDLES].map(uint64),
    ],
    'expand-path@openssh.com': (fields) => {
      const path = fields.bytes();
      const rest =
        path.toString('latin1').startsWith('~/') || path.equals(Buffer.from('~')) ? path.subarray(1) : undefined;
      return name(realPath(rest ? Buffer.concat([Buffer.from(this.#home), rest]) : path));
    },
  };
}

const EXTENSIONS: readonly (readonly [string, string])[] = [
  ['posix-rename@openssh.com', '1'],
  ['statvfs@openssh.com', '2'],
  ['hardlink@openssh.com', '1'],
  ['fsync@openssh.com', '1'],
  ['lsetstat@openssh.com', '1'],
  ['limits@openssh.com', '1'],
  ['expand-path@openssh.com', '1'],
];

function greeting(): Buffer {
  const extensions = EXTENSIONS.flatMap(([extension, version]) => [string(extension), string(version)]);
  return packet(byte(Answer.version), uint32(VERSION), ...extensions);
}

function status(code: number, message: string): Reply {
  return [byte(Answer.status), uint32(code), string(message), string('')];
}

function done(action: () => void): Reply {
  action();
  return status(Status.ok, '');
}

const STATUS_BY_ERRNO: Readonly<Record<string, number>> = {
  ENOENT: Status.noSuchFile,
  ENOTDIR: Status.noSuchFile,
  EBADF: Status.noSuchFile,
  ELOOP: Status.noSuchFile,
  EPERM: Status.permissionDenied,
  EACCES: Status.permissionDenied,
  EROFS: Status.permissionDenied,
  ENAMETOOLONG: Status.badMessage,
};

function statusOf(error: Error): number {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  return STATUS_BY_ERRNO[code] ?? Status.failure;
}

function read(fd: number, offset: number, length: number): Reply {
  const data = Buffer.allocUnsafe(Math.min(length, MAX_DATA_BYTES));
  const count = fs.readSync(fd, data, 0, data.length, offset);
  if (count === 0 && length > 0) return status(Status.endOfFile, 'end of file');
  return [byte(Answer.data), string(data.subarray(0, count))];
}

function write(fd: number, offset: number, data: Buffer): void {
  for (let at = 0; at < data.length;) at += fs.writeSync(fd, data, at, data.length - at, offset + at);
}

function openDirectory(path: Buffer): fs.Dir {
  // the type declarations know no bytes
  return fs.opendirSync(path, { encoding: 'buffer' as BufferEncoding });
}

function list({ directory, path }: { readonly directory: fs.Dir; readonly path: Buffer }): Reply {
  const names: Buffer[] = [];
  for (let entry = directory.readSync(); entry; entry = directory.readSync()) {
    const file = Buffer.from(entry.name);
    const stats = fs.lstatSync(Buffer.concat([path, Buffer.from('/'), file]), { throwIfNoEntry: false });
    if (!stats) continue; // removed since
    names.push(Buffer.concat([string(file), string(longName(file, stats)), attributes(stats)]));
    if (names.length === NAMES_AT_ONCE) break;
  }
  if (names.length === 0) return status(Status.endOfFile, 'that was all');
  return [byte(Answer.name), uint32(names.length), ...names];
}

/** One name, without attributes. */
function name(path: Buffer): Reply {
  return [byte(Answer.name), uint32(1), string(path), string(path), uint32(0)];
}

const MAX_NAME_BYTES = 255;

function fileSystem(path: Buffer): Reply {
  const { bsize, blocks, bfree, bavail, files, ffree } = fs.statfsSync(path, { bigint: true });
  const numbers = [bsize, bsize, blocks, bfree, bavail, files, ffree, ffree, 0n, 0n, BigInt(MAX_NAME_BYTES)];
  return [byte(Answer.extended), ...numbers.map(uint64)];
}
