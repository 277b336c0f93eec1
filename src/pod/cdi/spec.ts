import { z } from 'zod';
import { CaissonError } from '../../lib/errors.ts';

const text = z.string().min(1);

const deviceNode = z.object({
  path: text,
  hostPath: z.string().default(''),
  permissions: z.string().default('rwm'),
});

const mount = z.object({ hostPath: text, containerPath: text, options: z.array(z.string()).default([]) });

const edits = z.object({
  env: z.array(z.string().regex(/^[^=\0]+=[^\0]*$/, 'must be NAME=value')).default([]),
  deviceNodes: z.array(deviceNode).default([]),
  mounts: z.array(mount).default([]),
  hooks: z.array(z.unknown()).default([]),
  additionalGids: z.array(z.int().min(0)).default([]),
});

/** What a device adds to a container. */
export type ContainerEdits = z.infer<typeof edits>;

/** A specification of the Container Device Interface, without the fields that mean nothing to a VM. */
const spec = z.object({
  cdiVersion: text,
  kind: z.string().regex(/^[a-zA-Z][\w.-]*\/[a-zA-Z][\w.-]*$/, 'must be vendor/class'),
  containerEdits: edits.prefault({}),
  devices: z.array(z.object({ name: text, containerEdits: edits })).min(1),
});

export type CdiSpec = z.infer<typeof spec>;

/** Throws `failed_precondition` that names the file. */
export function parseSpec(file: string, content: unknown): CdiSpec {
  const checked = spec.safeParse(content);
  if (checked.success) return checked.data;
  const [issue] = checked.error.issues;
  throw new CaissonError(
    'failed_precondition',
    `${file} is not a CDI specification: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`,
  );
}
