import { CaissonError } from '../lib/errors.ts';

const factors: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/** Kubernetes' bandwidth annotations, quantities in `bit/s`; undefined without any. */
export function parseBandwidth(
  annotations: Readonly<Record<string, string>>,
): { ingressBps?: number; egressBps?: number } | undefined {
  const ingressBps = quantity(annotations, 'kubernetes.io/ingress-bandwidth');
  const egressBps = quantity(annotations, 'kubernetes.io/egress-bandwidth');
  if (ingressBps === undefined && egressBps === undefined) return undefined;
  return { ...(ingressBps !== undefined && { ingressBps }), ...(egressBps !== undefined && { egressBps }) };
}

function quantity(annotations: Readonly<Record<string, string>>, key: string): number | undefined {
  const text = annotations[key];
  if (text === undefined) return undefined;
  const match = /^(\d+(?:\.\d+)?)(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi|)$/.exec(text);
  const value = Number(match?.[1]) * (factors[match?.[2] ?? ''] ?? Number.NaN);
  // the limits of Kubernetes' own parser
  if (value >= 1e3 && value <= 1e15) return Math.round(value);
  throw new CaissonError(
    'invalid_argument',
    `annotation ${key}: ${JSON.stringify(text)} is not a rate between 1k and 1P`,
  );
}
