import { z } from 'zod';
import { CaissonError } from '../lib/errors.ts';
import { ipInNetns } from './netns.ts';

const linkSchema = z.object({
  ifindex: z.int(),
  /** ifindex of the veth's other end, in the host's netns */
  link_index: z.int().optional(),
  mtu: z.int(),
  address: z.string(),
  addr_info: z
    .array(
      z.object({
        family: z.string(),
        local: z.string().optional(),
        prefixlen: z.int(),
        scope: z.string(),
      }),
    )
    .default([]),
});

const routeSchema = z.object({
  dst: z.string(),
  type: z.string().default('unicast'),
  gateway: z.string().optional(),
  via: z.object({ host: z.string() }).optional(),
  protocol: z.string().default('boot'),
  table: z.string().default('main'),
  metrics: z.array(z.object({ mtu: z.int().optional() })).default([]),
});

const neighbourSchema = z.object({
  dst: z.string(),
  lladdr: z.string().optional(),
  state: z.array(z.string()).default([]),
});

export type LinkRoute = z.infer<typeof routeSchema>;

/** The pod's CNI interface as the kernel has it. */
export interface PodLink {
  readonly mac: string;
  readonly mtu: number;
  readonly peerIndex: number | undefined;
  /** without link-local ones, which every kernel makes itself */
  readonly addresses: readonly { readonly ip: string; readonly prefixLength: number }[];
  /** unicast routes of the main table, the kernel's own included */
  readonly routes: readonly LinkRoute[];
  readonly permanentNeighbours: readonly { readonly ip: string; readonly mac: string }[];
}

/** Reads it, in one process. Throws `unavailable` if the plugins made no such interface. */
export async function readLink(sandboxId: string, name: string, signal: AbortSignal): Promise<PodLink> {
  // "table all" because `ip route` in a batch shows one address family otherwise
  const lines = [`addr show dev ${name}`, `route show table all dev ${name}`, `neigh show dev ${name}`];
  const [links, routes, neighbours] = await ipInNetns(sandboxId, lines, signal);
  const link = z.array(linkSchema).parse(links)[0];
  if (!link) throw new CaissonError('unavailable', `the CNI plugins made no interface ${name}`);
  return {
    mac: link.address,
    mtu: link.mtu,
    peerIndex: link.link_index,
    addresses: link.addr_info.flatMap(({ local, prefixlen, scope }) =>
      local === undefined || scope === 'link' ? [] : [{ ip: local, prefixLength: prefixlen }],
    ),
    routes: z
      .array(routeSchema)
      .parse(routes)
      .filter((route) => route.table === 'main' && route.type === 'unicast'),
    permanentNeighbours: z
      .array(neighbourSchema)
      .parse(neighbours)
      .flatMap(({ dst, lladdr, state }) =>
        lladdr !== undefined && state.includes('PERMANENT') ? [{ ip: dst, mac: lladdr }] : [],
      ),
  };
}
