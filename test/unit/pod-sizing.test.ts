import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { LinuxContainerResources } from '../../src/pod/contracts.ts';
import { ociLimits } from '../../src/pod/oci-resources.ts';
import { vmSize } from '../../src/pod/sizing.ts';

const MIB = 1024 * 1024;
const none: LinuxContainerResources = {
  cpu_period: '0',
  cpu_quota: '0',
  cpu_shares: '0',
  memory_limit_in_bytes: '0',
  memory_swap_limit_in_bytes: '0',
  oom_score_adj: '0',
  cpuset_cpus: '',
  cpuset_mems: '',
  hugepage_limits: [],
  unified: {},
};
const limits = (fields: Partial<LinuxContainerResources>): LinuxContainerResources => ({ ...none, ...fields });
const memory = (mib: number) => ({ memory_limit_in_bytes: String(mib * MIB) });
const pages = (mib: number) => ({ hugepage_limits: [{ page_size: '2MB', limit: String(mib * MIB) }] });

describe('the memory of a VM', () => {
  const sizes = { least: { vcpus: 1, memoryMib: 256 }, most: { vcpus: 8, memoryMib: 4096 } };
  const of = (pod: LinuxContainerResources | null, ...containers: LinuxContainerResources[]): number =>
    vmSize({ resources: pod, overhead: null }, containers, sizes).memoryMib;

  it('is what the guest needs and what the pod or its containers may have, whichever is more', () => {
    assert.equal(of(null), 256);
    assert.equal(of(null, limits(memory(100)), limits(memory(50))), 406);
    assert.equal(of(limits(memory(200)), limits(memory(100))), 456);
  });

  it('has room for huge pages besides, which no memory limit counts', () => {
    assert.equal(of(limits(memory(200)), limits({ ...memory(100), ...pages(64) }), limits(pages(2))), 522);
    assert.throws(() => of(null, limits(pages(8192))), { code: 'resource_exhausted' });
  });
});

describe('limits of huge pages', () => {
  it('are kept where they are 0, for the size that every guest has', () => {
    const hugepage_limits = [
      { page_size: '2MB', limit: '0' },
      { page_size: '1GB', limit: '0' },
    ];
    assert.deepEqual(ociLimits(limits({ hugepage_limits })), { hugepageLimits: [{ pageSize: '2MB', limit: 0 }] });
  });
});
