export { openStore } from './store.ts';
export type { StoreOptions } from './store.ts';
export { openSettings } from './settings.ts';
