import { z } from 'zod';
import { CaissonError, describeError } from '../../lib/errors.ts';
import { readSmallFile } from '../../lib/files.ts';
import type { SeccompProfile } from './profile.ts';

const MAX_BYTES = 1024 * 1024;

/** Docker's own extensions, which would change what a rule means if they were left out. */
const DOCKERS = ['includes', 'excludes', 'archMap'] as const;

const action = z.string().regex(/^SCMP_ACT_[A-Z_]+$/);
const errno = z.int().min(0).max(4095).optional();
/** a larger one would be another number when it is written again */
const word = z.int().min(0);
const rule = z.object({
  names: z.array(z.string()).min(1),
  action,
  errnoRet: errno,
  args: z
    .array(
      z.object({
        index: z.int().min(0).max(5),
        value: word,
        valueTwo: word.optional(),
        op: z.string().regex(/^SCMP_CMP_[A-Z_]+$/),
      }),
    )
    .nullish()
    .transform((args) => args ?? undefined),
});
const profile = z.object({
  defaultAction: action,
  defaultErrnoRet: errno,
  architectures: z.array(z.string().regex(/^SCMP_ARCH_\w+$/)).optional(),
  flags: z.array(z.string().regex(/^SECCOMP_FILTER_FLAG_\w+$/)).optional(),
  syscalls: z.array(rule).optional(),
});

/** A profile from a file of the node, in OCI's format. Throws `invalid_argument` that names the file. */
export async function localProfile(path: string): Promise<SeccompProfile> {
  const fail = (why: string, cause?: unknown): never => {
    const field = 'config.linux.security_context.seccomp.localhost_ref';
    throw new CaissonError('invalid_argument', `${field}: ${JSON.stringify(path)} ${why}`, { cause });
  };
  if (!path.startsWith('/') || path.includes('\0')) return fail('is not an absolute path');
  const text = await readSmallFile(path, MAX_BYTES).catch((error: unknown) =>
    fail(`cannot be read: ${describeError(error)}`, error),
  );
  const parsed = parse(text);
  if (parsed === undefined) return fail('is not JSON');
  const dockers = DOCKERS.find((key) => new RegExp(`"${key}"\\s*:\\s*[[{]\\s*[^\\]}\\s]`).test(text));
  if (dockers !== undefined) return fail(`uses ${dockers}, which is Docker's own and not in OCI's format`);
  const checked = profile.safeParse(parsed);
  if (!checked.success) {
    const [issue] = checked.error.issues;
    return fail(`is not a seccomp profile: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`);
  }
  const actions = [checked.data.defaultAction, ...(checked.data.syscalls ?? []).map((one) => one.action)];
  if (actions.includes('SCMP_ACT_NOTIFY')) return fail('uses SCMP_ACT_NOTIFY, and nobody listens in the guest');
  return checked.data;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // said by the caller
  }
}
