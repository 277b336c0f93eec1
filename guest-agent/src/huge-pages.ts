import { readFile, writeFile } from 'node:fs/promises';
import { CaissonError } from '../../src/lib/errors.ts';
import { ignoreMissing } from '../../src/lib/files.ts';
import type { OciHugePageLimit } from './spec.ts';

const UNIT_KIB = { K: 1, M: 1024, G: 1024 * 1024 } as const;

/** How many pages of each size (in KiB) each container may have. */
const kept = new Map<string, ReadonlyMap<number, number>>();
let last: Promise<unknown> = Promise.resolve();

/**
 * Has the kernel set aside as many huge pages as the limits of this container and all others come to; without limits they
 * are given back. Throws `resource_exhausted` when there is no room, `failed_precondition` for a size that it does not have.
 */
export async function keepHugePages(id: string, limits: readonly OciHugePageLimit[]): Promise<void> {
  const before = kept.get(id);
  const wanted = new Map(limits.filter(({ limit }) => limit > 0).map(pagesOf));
  if (!before && wanted.size === 0) return;
  const change = last.then(async () => {
    const sizes = new Set([...(before?.keys() ?? []), ...wanted.keys()]);
    kept.set(id, wanted);
    try {
      for (const size of sizes) await setPool(size);
    } catch (error) {
      kept.set(id, before ?? new Map());
      for (const size of sizes) await setPool(size).catch(() => undefined); // what it had, it can have
      throw error;
    } finally {
      if (!kept.get(id)?.size) kept.delete(id);
    }
  });
  last = change.catch(() => undefined);
  await change;
}

function pagesOf({ pageSize, limit }: OciHugePageLimit): [number, number] {
  const [, number, unit] = /^(\d+)([KMG])B$/.exec(pageSize) ?? [];
  const sizeKib = Number(number) * UNIT_KIB[unit as keyof typeof UNIT_KIB];
  return [sizeKib, Math.floor(limit / 1024 / sizeKib)];
}

async function setPool(sizeKib: number): Promise<void> {
  const file = `/sys/kernel/mm/hugepages/hugepages-${sizeKib}kB/nr_hugepages`;
  const wanted = [...kept.values()].reduce((sum, pages) => sum + (pages.get(sizeKib) ?? 0), 0);
  const isWritten = await writeFile(file, String(wanted), { flag: 'r+' }).then(() => true, ignoreMissing(false));
  if (!isWritten)
    throw new CaissonError('failed_precondition', `hugepage_limits: the guest has no huge pages of ${sizeKib} KiB`);
  const now = Number(await readFile(file, 'utf8'));
  if (now < wanted) {
    const words = `hugepage_limits: the guest finds room for ${now} of ${wanted} huge pages of ${sizeKib} KiB`;
    throw new CaissonError('resource_exhausted', words);
  }
}
