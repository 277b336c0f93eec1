const UNITS = [
  { name: 'd', ms: 86_400_000 },
  { name: 'h', ms: 3_600_000 },
  { name: 'm', ms: 60_000 },
];

/** How long ago, in its largest unit: `42s`, `3m`. `createdAt`: nanoseconds since the epoch. */
export function age(createdAt: string, nowMs = Date.now()): string {
  const ms = Math.max(0, nowMs - Number(BigInt(createdAt) / 1_000_000n));
  const unit = UNITS.find((one) => ms >= one.ms) ?? { name: 's', ms: 1000 };
  return `${Math.floor(ms / unit.ms)}${unit.name}`;
}
