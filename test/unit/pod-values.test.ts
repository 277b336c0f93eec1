import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseBandwidth } from '../../src/pod/bandwidth.ts';
import { stopSignalNumber } from '../../src/pod/signals.ts';
import { together } from '../../src/lib/async.ts';

describe('stop signals', () => {
  it('come from the config, then from the image, then are SIGTERM', () => {
    const cases: [string, string, number][] = [
      ['', '', 15],
      ['RUNTIME_DEFAULT', 'SIGQUIT', 3],
      ['SIGUSR1', 'SIGQUIT', 10],
      ['', 'usr2', 12],
      ['', '9', 9],
      ['SIGRTMIN', '', 34],
      ['SIGRTMINPLUS3', '', 37],
      ['', 'SIGRTMAX-2', 62],
    ];
    for (const [config, image, expected] of cases) assert.equal(stopSignalNumber(config, image), expected);
  });

  it('are refused when they do not exist', () => {
    for (const wrong of ['SIGNOPE', '0', '65', 'SIGRTMIN+40'])
      assert.throws(() => stopSignalNumber('', wrong), /not a stop signal/);
  });
});

describe('bandwidth annotations', () => {
  it('are quantities in bits a second', () => {
    assert.equal(parseBandwidth({}), undefined);
    const annotations = { 'kubernetes.io/ingress-bandwidth': '10M', 'kubernetes.io/egress-bandwidth': '1.5Ki' };
    assert.deepEqual(parseBandwidth(annotations), { ingressBps: 10_000_000, egressBps: 1536 });
  });

  it('are refused otherwise', () => {
    for (const wrong of ['', '10', '-1M', '1e9', '10MB', '2P']) {
      assert.throws(() => parseBandwidth({ 'kubernetes.io/ingress-bandwidth': wrong }), /is not a rate/);
    }
  });
});

describe('two tasks together', () => {
  it('abort each other and settle before the first failure is thrown', async () => {
    let settled = false;
    const slow = (signal: AbortSignal): Promise<never> =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          setTimeout(() => {
            settled = true;
            reject(new Error('aborted'));
          }, 10);
        });
      });
    const quick = async (): Promise<never> => {
      throw new Error('the reason');
    };
    await assert.rejects(together(new AbortController().signal, slow, quick), /the reason/);
    assert.equal(settled, true);
  });
});
