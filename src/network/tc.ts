import { TAP, tcInNetns } from './netns.ts';

const MATCH_ALL = 'u32 match u32 0 0';

/**
 * Joins the two interfaces: every frame that arrives at one leaves by the other. Frames are taken at ingress, before
 * the netns' own network stack, which therefore never answers ARP or anything else for the address it still has.
 */
export async function joinToTap(sandboxId: string, interfaceName: string, signal: AbortSignal): Promise<void> {
  const ends = [interfaceName, TAP];
  await tcInNetns(
    sandboxId,
    [...ends.map((end) => `qdisc add dev ${end} ingress`), redirect(interfaceName, TAP), redirect(TAP, interfaceName)],
    signal,
  );
}

function redirect(from: string, to: string): string {
  return `filter add dev ${from} parent ffff: protocol all ${MATCH_ALL} action mirred egress redirect dev ${to}`;
}
