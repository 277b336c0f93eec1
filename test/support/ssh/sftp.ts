import type { Client, FileEntryWithStats, SFTPWrapper, Stats } from 'ssh2';

/** ssh2's SFTP client with promises, as far as tests need it. */
export interface Sftp {
  readFile(path: string): Promise<string>;
  writeFile(path: string, content: string | Buffer): Promise<void>;
  stat(path: string): Promise<Stats>;
  lstat(path: string): Promise<Stats>;
  readdir(path: string): Promise<readonly FileEntryWithStats[]>;
  readlink(path: string): Promise<string>;
  realpath(path: string): Promise<string>;
  symlink(target: string, path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  mkdir(path: string): Promise<void>;
  rmdir(path: string): Promise<void>;
  unlink(path: string): Promise<void>;
  chmod(path: string, mode: number): Promise<void>;
  chown(path: string, uid: number, gid: number): Promise<void>;
  utimes(path: string, accessed: number, modified: number): Promise<void>;
  /** resolves when the session is over */
  readonly closed: Promise<void>;
  end(): void;
}

export async function openSftp(client: Client): Promise<Sftp> {
  const sftp = await new Promise<SFTPWrapper>((resolve, reject) =>
    client.sftp((error, opened) => (error ? reject(error) : resolve(opened))),
  );
  const call = <T>(start: (done: (error: Error | null | undefined, value?: T) => void) => void): Promise<T> =>
    new Promise((resolve, reject) => start((error, value) => (error ? reject(error) : resolve(value as T))));
  return {
    readFile: async (path) => String(await call<Buffer>((done) => sftp.readFile(path, done))),
    writeFile: (path, content) => call((done) => sftp.writeFile(path, content, done)),
    stat: (path) => call((done) => sftp.stat(path, done)),
    lstat: (path) => call((done) => sftp.lstat(path, done)),
    readdir: (path) => call((done) => sftp.readdir(path, done)),
    readlink: (path) => call((done) => sftp.readlink(path, done)),
    realpath: (path) => call((done) => sftp.realpath(path, done)),
    // ssh2 has the draft's order for servers that do not call themselves OpenSSH; all others have OpenSSH's
    symlink: (target, path) => call((done) => sftp.symlink(path, target, done)),
    rename: (from, to) => call((done) => sftp.rename(from, to, done)),
    mkdir: (path) => call((done) => sftp.mkdir(path, done)),
    rmdir: (path) => call((done) => sftp.rmdir(path, done)),
    unlink: (path) => call((done) => sftp.unlink(path, done)),
    chmod: (path, mode) => call((done) => sftp.chmod(path, mode, done)),
    chown: (path, uid, gid) => call((done) => sftp.chown(path, uid, gid, done)),
    utimes: (path, accessed, modified) => call((done) => sftp.utimes(path, accessed, modified, done)),
    closed: new Promise((resolve) => sftp.on('close', () => resolve())),
    end: () => sftp.end(),
  };
}
