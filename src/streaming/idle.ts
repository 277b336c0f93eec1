/** `ms` that a timer of Node can be set to at most */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface IdleWatch {
  /** something moved */
  touch(): void;
  stop(): void;
}

/** Calls `onIdle` once when nothing has moved for `ms`; with 0, never. */
export function watchIdle(ms: number, onIdle: () => void): IdleWatch {
  if (ms === 0) return { touch: () => undefined, stop: () => undefined };
  const timer = setTimeout(onIdle, Math.min(ms, MAX_TIMER_MS)).unref();
  return { touch: () => void timer.refresh(), stop: () => clearTimeout(timer) };
}
