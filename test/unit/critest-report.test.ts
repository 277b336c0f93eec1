import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { conformancePage } from '../conformance/critest/document.ts';
import { Progress } from '../conformance/critest/progress.ts';
import { summarize } from '../conformance/critest/report.ts';

const spec = (LeafNodeText: string, State: string, Message?: string) => ({
  ContainerHierarchyTexts: ['[k8s.io] Thing'],
  LeafNodeType: 'It',
  LeafNodeText,
  State,
  ...(Message !== undefined && { Failure: { Message } }),
});
const suite = (...SpecReports: ReturnType<typeof spec>[]) => [{ SpecialSuiteFailureReasons: null, SpecReports }];

describe("critest's report", () => {
  it('counts passes, failures and skips', () => {
    const summary = summarize(suite(spec('a', 'passed'), spec('b', 'failed', 'no\n  because'), spec('c', 'timedout')));
    assert.deepEqual([summary.passed, summary.failed, summary.skipped], [1, 2, 0]);
    assert.deepEqual(
      summary.specs.map(({ reason }) => reason),
      ['', 'no', 'timedout'],
    );
  });

  it('gives our own skips our reasons and blames others on a missing feature', () => {
    const { specs } = summarize(suite(spec('HostIpc is true', 'skipped'), spec('needs a flag', 'skipped', 'no flag')));
    assert.match(specs[0]?.reason ?? '', /two kernels/);
    assert.deepEqual(
      specs.map(({ avoidable }) => avoidable),
      [false, true],
    );
  });

  it('does not blame the skips of a security module that the host lacks', () => {
    const { specs } = summarize(suite(spec('AppArmor enforces', 'skipped', 'AppArmor is disabled on this host')));
    assert.equal(specs[0]?.avoidable, false);
  });

  it('leaves out what no focus chose, and measurements', () => {
    const summary = summarize(suite(spec('other', 'skipped'), spec('a benchmark of it', 'skipped')));
    assert.equal(summary.skipped, 0);
    assert.deepEqual(
      summary.specs.map(({ state }) => state),
      ['unfocused'],
    );
  });

  it("tells of a failed set-up and of the suite's own troubles", () => {
    const setUp = { ...spec('', 'failed', 'no socket'), LeafNodeType: 'BeforeSuite' };
    const [suiteReport] = suite(setUp);
    assert.ok(suiteReport);
    const summary = summarize([{ ...suiteReport, SpecialSuiteFailureReasons: ['Suite Timeout Elapsed'] }]);
    assert.deepEqual(summary.troubles, ['Suite Timeout Elapsed', 'no socket']);
  });

  it('becomes a page with one row a spec', () => {
    const page = conformancePage(
      'v1',
      summarize(suite(spec('a|b', 'failed', 'x'), spec('HostIpc is true', 'skipped'))),
    );
    assert.match(page, /^\| Thing a\\\|b \| \*\*fail\*\*: x \|$/m);
    assert.match(page, /^\| Thing HostIpc is true \| the node and a VM/m);
  });
});

describe("critest's progress", () => {
  const read = (text: string): string[] => {
    const seen: string[] = [];
    const progress = new Progress((line) => seen.push(line));
    for (const line of text.split('\n')) progress.read(line);
    return seen;
  };
  const ruler = '-'.repeat(30);

  it('names each spec once, also a failed one whose name comes twice', () => {
    const one = `${ruler}\n[k8s.io] one\nfile.go:1\n  STEP: x\n• [1.500 seconds]\n${ruler}\n`;
    const two = `${ruler}\n[k8s.io] two\n  STEP: x\n• [FAILED] [2.000 seconds]\n[k8s.io] two [It]\nfile.go:2\n${ruler}\n`;
    assert.deepEqual(read(one + two), ['ok       [k8s.io] one (1.500 s)', 'FAILED   [k8s.io] two (2.000 s)']);
  });

  it('finds the name behind the bullet of specs that ran side by side', () => {
    assert.deepEqual(read(`${ruler}\n• [3.000 seconds]\n[k8s.io] three\nfile.go:3\n${ruler}\n`), [
      'ok       [k8s.io] three (3.000 s)',
    ]);
  });
});
