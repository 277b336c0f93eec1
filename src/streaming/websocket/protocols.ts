/** How Sec-WebSocket-Protocol names what is spoken inside. */
import { PORT_FORWARD_PROTOCOL } from '../spdy/port-forward.ts';

export interface ChannelProtocol {
  /** payloads are base64 in text messages, and channels ASCII digits */
  readonly base64: boolean;
  /** the status is JSON; before version 4, text */
  readonly jsonStatus: boolean;
  /** `0xff, channel` ends a channel */
  readonly closeSignal: boolean;
}

const plain: ChannelProtocol = { base64: false, jsonStatus: false, closeSignal: false };

/** Of commands. A client that names none speaks the first version. */
export const COMMAND_PROTOCOLS: Readonly<Record<string, ChannelProtocol>> = {
  '': plain,
  'channel.k8s.io': plain,
  'base64.channel.k8s.io': { ...plain, base64: true },
  'v4.channel.k8s.io': { ...plain, jsonStatus: true },
  'v4.base64.channel.k8s.io': { ...plain, base64: true, jsonStatus: true },
  'v5.channel.k8s.io': { ...plain, jsonStatus: true, closeSignal: true },
};

/** Of port-forwards with a pair of channels for each port. */
export const PORT_CHANNEL_PROTOCOLS: Readonly<Record<string, ChannelProtocol>> = {
  '': plain,
  'v4.channel.k8s.io': plain,
  'v4.base64.channel.k8s.io': { ...plain, base64: true },
};

/** SPDY/3.1 in binary messages */
export const TUNNEL_PROTOCOL = `SPDY/3.1+${PORT_FORWARD_PROTOCOL}`;

/** The first that the client lists and that is offered; `''` stands for a client that lists none. */
export function chooseProtocol(listed: readonly string[], offered: readonly string[]): string | undefined {
  if (listed.length === 0) return offered.includes('') ? '' : undefined;
  return listed.find((name) => name !== '' && offered.includes(name));
}
