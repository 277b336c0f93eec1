import { livePods, OPERATIONS, type Samples } from './operations.ts';
import { PEERS, type Peer, type PeerName } from './peer.ts';

export interface PairOptions {
  /** how often each peer has its turn */
  readonly pairs: number;
  /** turns before that which do not count */
  readonly warmUps: number;
  /** at once in each turn */
  readonly pods: number;
}

export type PairedSamples = Readonly<Record<PeerName, Samples>>;

/** Both have their turns in pairs, first and second by turns, so that whatever else the machine does meets both alike. */
export async function measurePairs(
  peers: Readonly<Record<PeerName, Peer>>,
  { pairs, warmUps, pods }: PairOptions,
  signal: AbortSignal,
): Promise<PairedSamples> {
  const turns: Record<PeerName, Samples[]> = { caisson: [], containerd: [] };
  for (let turn = -warmUps; turn < pairs; turn++) {
    for (const name of turn % 2 === 0 ? PEERS : PEERS.toReversed()) {
      for (const each of PEERS) await peers[each].settled(signal);
      signal.throwIfAborted();
      const samples = await livePods(peers[name], pods, signal);
      if (turn >= 0) turns[name].push(samples);
    }
  }
  return { caisson: joined(turns.caisson), containerd: joined(turns.containerd) };
}

function joined(turns: readonly Samples[]): Samples {
  const entries = OPERATIONS.map((operation) => [operation, turns.flatMap((turn) => turn[operation])] as const);
  return Object.fromEntries(entries) as Record<(typeof OPERATIONS)[number], number[]>;
}
