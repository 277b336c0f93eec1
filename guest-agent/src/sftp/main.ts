/**
 * The program behind an SFTP session: a process of its own, so that files which hang, as those of a container's own FUSE
 * may, hang nobody else. Descriptor 3 is the container's mount namespace, 4 its user namespace, in which the process is
 * already; the argument says as whom to work.
 */
import fs from 'node:fs';
import { enterContainer, type Identity } from './enter.ts';
import { serveSftp } from './serve.ts';

const MOUNTS_FD = 3;
const USERS_FD = 4;
const KILL_ME_FIRST = '1000';

export interface SftpArguments extends Identity {
  readonly home: string;
}

const { home, ...identity } = JSON.parse(process.argv[2] ?? '') as SftpArguments;
fs.writeFileSync('/proc/self/oom_score_adj', KILL_ME_FIRST);
enterContainer(MOUNTS_FD, identity);
for (const fd of [MOUNTS_FD, USERS_FD]) fs.closeSync(fd);
serveSftp(home);
