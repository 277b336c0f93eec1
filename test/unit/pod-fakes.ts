import { CaissonError } from '../../src/lib/errors.ts';
import type { Collection } from '../../src/state/contracts.ts';

/** Stands in for what a test has no use for: whatever is asked of it is an error. */
export function useless<T extends object>(what: string, parts: Partial<T> = {}): T {
  const get = (target: Partial<T>, name: string | symbol): unknown => {
    if (name in target) return target[name as keyof T];
    if (name === 'then' || typeof name === 'symbol') return undefined; // the language asks for these
    throw new Error(`the test did not expect ${what}.${name}`);
  };
  return new Proxy(parts, { get }) as T;
}

export function inMemory<T>(): Collection<T> {
  const known = new Set<string>();
  const update = (id: string): void => {
    if (!known.has(id)) throw new CaissonError('not_found', `there is no ${id}`);
  };
  return { insert: (id) => void known.add(id), update, delete: (id) => void known.delete(id), all: () => [] };
}
