import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CaissonError } from '../lib/errors.ts';
import { authFile } from './auth.ts';
import type { RegistryAuth } from './contracts.ts';
import type { Context } from './context.ts';
import { withWorkDirectory } from './disk.ts';
import { ingest } from './ingest.ts';
import { damagedLayer, type ImageRecord, type Names } from './record.ts';
import { formatReference, repository, type Reference } from './reference.ts';
import { relocated } from './registries.ts';
import { policyDigest, servedDigest } from './skopeo.ts';

/** Pulls an image and stores it under its names. One request finds out that nothing has changed. */
export async function pullImage(
  context: Context,
  reference: Reference,
  auth: RegistryAuth | undefined,
  signal: AbortSignal,
): Promise<ImageRecord> {
  signal.throwIfAborted();
  const { disk } = context;
  const image = formatReference(reference);
  return withWorkDirectory(disk, async (temporary) => {
    const authPath = join(temporary, 'auth.json');
    await writeFile(authPath, authFile(auth, authHosts(context, reference)), { mode: 0o600 });
    const { signature_policy: policyFile } = context.config;
    const options = { home: disk.home, policy: policyFile, temporary, authFile: authPath, image, signal };
    const policy = await policyDigest(policyFile);
    const digest = await servedDigest(`docker://${image}`, options);
    const names = namesOf(reference, digest);
    const known = await findIntact(context, names, policy);
    if (known) return context.put({ ...known, ...names });
    // by digest: the tag may move at any time
    using ingested = await ingest(context, `docker://${repository(reference)}@${digest}`, options);
    return context.put({ ...ingested.record, ...names, policy });
  });
}

function namesOf(reference: Reference, digest: string): Names {
  if (reference.digest !== undefined && reference.digest !== digest) {
    const message = `the registry answers for ${formatReference(reference)} with something else, ${digest}`;
    throw new CaissonError('failed_precondition', message);
  }
  return {
    repoTags: reference.digest === undefined ? [formatReference(reference)] : [],
    repoDigests: [`${repository(reference)}@${digest}`],
  };
}

/** Only an image that came from the same repository, under the same signature policy, which may differ between repositories. */
async function findIntact(
  { records, disk }: Context,
  { repoDigests }: Names,
  policy: string,
): Promise<ImageRecord | undefined> {
  const known = records
    .values()
    .find((record) => record.policy === policy && repoDigests.every((name) => record.repoDigests.includes(name)));
  if (!known || (await damagedLayer(known, disk)) !== undefined) return undefined;
  return records.get(known.id); // it may have been removed meanwhile
}

/** Mirrors get no credentials: they were given for the registry. */
function authHosts({ config }: Context, reference: Reference): string[] {
  const real = relocated(config.registry, repository(reference))?.split('/')[0];
  return real === undefined ? [reference.domain] : [reference.domain, real];
}
