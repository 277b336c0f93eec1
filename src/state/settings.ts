import type { Store } from './contracts.ts';

/** Single values that survive the daemon, by name. Reads are from memory. */
export interface Settings {
  get(name: string): string | undefined;
  set(name: string, value: string): void;
}

export function openSettings(store: Store): Settings {
  const collection = store.collection<string>('setting');
  const values = new Map(collection.all().map(({ id, value }) => [id, value]));
  return {
    get: (name) => values.get(name),
    set: (name, value) => {
      if (values.get(name) === value) return;
      if (values.has(name)) collection.update(name, value);
      else collection.insert(name, name, value);
      values.set(name, value);
    },
  };
}
