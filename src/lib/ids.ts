import { randomBytes } from 'node:crypto';

/** A new sandbox or container id: 64 hexadecimal digits, as every CRI client expects. */
export function newId(): string {
  return randomBytes(32).toString('hex');
}

/** The length at which crictl and people quote an id. */
export function shortId(id: string): string {
  return id.slice(0, 13);
}
