import { closeSync, constants, fstatSync, openSync, readFileSync, realpathSync } from 'node:fs';
import { CaissonError, isErrno } from '../../src/lib/errors.ts';

export interface UserRequest {
  readonly user: string;
  readonly gid: number | undefined;
  readonly supplementalGroups: readonly number[];
  readonly strictGroups: boolean;
}

export interface ResolvedUser {
  readonly uid: number;
  readonly gid: number;
  readonly supplementalGroups: readonly number[];
  readonly home: string | undefined;
}

const MAX_FILE_BYTES = 1024 * 1024;
const MAX_ID = 2 ** 31 - 1;

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/**
 * Looks the user up in the container's own files, as image configs and CRI mean it: `uid`, `name`, `uid:gid`,
 * `name:group`. Throws `invalid_argument` for names that are not there and for ids out of range.
 */
export function resolveUser(rootfs: string, request: UserRequest): ResolvedUser {
  const passwd = parsePasswd(readSmallFile(rootfs, 'etc/passwd'));
  const groups = parseGroup(readSmallFile(rootfs, 'etc/group'));
  const [userPart = '', groupPart = ''] = request.user.split(':');
  const entry = findUser(passwd, userPart === '' ? '0' : userPart);
  const gid = request.gid ?? (groupPart === '' ? entry.gid : findGroup(groups, groupPart));
  // the primary one too: without it, setgid() would take a group away that was to be denied something (CVE-2023-25173)
  const wanted = [checkId(gid, 'group'), ...request.supplementalGroups];
  const supplemental = new Set(wanted.map((id) => checkId(id, 'supplemental group')));
  if (!request.strictGroups) {
    for (const group of groups)
      if (entry.name !== '' && group.members.includes(entry.name)) supplemental.add(group.gid);
  }
  return {
    uid: entry.uid,
    gid,
    supplementalGroups: [...supplemental],
    home: entry.home || undefined,
  };
}

function findUser(passwd: readonly PasswdEntry[], user: string): PasswdEntry {
  if (!/^\d+$/.test(user)) {
    const entry = passwd.find(({ name }) => name === user);
    if (!entry)
      throw new CaissonError('invalid_argument', `user ${JSON.stringify(user)} is not in the image's /etc/passwd`);
    return entry;
  }
  const uid = checkId(Number(user), 'user');
  return passwd.find((entry) => entry.uid === uid) ?? { name: '', uid, gid: 0, home: '' };
}

function findGroup(groups: readonly GroupEntry[], group: string): number {
  if (/^\d+$/.test(group)) return checkId(Number(group), 'group');
  const entry = groups.find(({ name }) => name === group);
  if (!entry)
    throw new CaissonError('invalid_argument', `group ${JSON.stringify(group)} is not in the image's /etc/group`);
  return entry.gid;
}

function checkId(id: number, what: string): number {
  if (Number.isInteger(id) && id >= 0 && id <= MAX_ID) return id;
  throw new CaissonError('invalid_argument', `${what} id ${id} is not between 0 and ${MAX_ID}`);
}

/** Undefined for what is no id: such a line does not count, or a strange one could make somebody root. */
const idIn = (text: string): number | undefined =>
  /^\d{1,10}$/.test(text) && Number(text) <= MAX_ID ? Number(text) : undefined;

function parsePasswd(text: string): PasswdEntry[] {
  return records(text, 7).flatMap(([name = '', , uidText = '', gidText = '', , home = '']) => {
    const [uid, gid] = [idIn(uidText), idIn(gidText)];
    return uid === undefined || gid === undefined ? [] : [{ name, uid, gid, home }];
  });
}

function parseGroup(text: string): GroupEntry[] {
  return records(text, 4).flatMap(([name = '', , gidText = '', members = '']) => {
    const gid = idIn(gidText);
    return gid === undefined ? [] : [{ name, gid, members: members.split(',') }];
  });
}

function records(text: string, fields: number): string[][] {
  return text
    .split('\n')
    .map((line) => line.split(':'))
    .filter((parts) => parts.length >= fields);
}

/**
 * The image decides what is there: only a regular file of sane size, inside its own root, is read. The caller waits for
 * it, which is less than what some turns through Node's thread pool take.
 */
function readSmallFile(rootfs: string, name: string): string {
  let fd: number | undefined;
  try {
    const path = realpathSync.native(`${rootfs}/${name}`);
    if (!path.startsWith(`${rootfs}/`)) return '';
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = fstatSync(fd);
    if (!stat.isFile()) return '';
    if (stat.size > MAX_FILE_BYTES)
      throw new CaissonError('invalid_argument', `the image's /${name} is larger than 1 MiB`);
    return readFileSync(fd, 'utf8').slice(0, MAX_FILE_BYTES);
  } catch (error) {
    if (isErrno(error, 'ENOENT') || isErrno(error, 'ENOTDIR') || isErrno(error, 'ELOOP') || isErrno(error, 'ENXIO'))
      return '';
    throw error;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
