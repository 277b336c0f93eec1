import { openAgentTarget } from './agent.ts';
import { openSshTarget } from './ssh.ts';
import { openSpdyTarget } from './spdy.ts';
import type { FuzzTarget } from './target.ts';
import { openWebSocketTarget } from './websocket.ts';

export const targets: Readonly<Record<string, () => Promise<FuzzTarget>>> = {
  agent: openAgentTarget,
  spdy: openSpdyTarget,
  ssh: openSshTarget,
  websocket: openWebSocketTarget,
};
