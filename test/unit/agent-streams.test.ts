/** What a guest says on long calls, and what the daemon keeps of it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PassThrough, Readable } from 'node:stream';
import type { AgentClient as AgentStub } from '../../proto/generated/agent/caisson/agent/v1/Agent.ts';
import { connectAgent } from '../../src/agent/index.ts';
import { readOutput, runExec } from '../../src/agent/streams.ts';

const never = new AbortController().signal;

/** Each call is answered with these messages. */
function stub(messages: readonly object[]): { readonly agent: AgentStub; readonly cancelled: () => boolean } {
  let cancelled = false;
  const cancel = (): void => void (cancelled = true);
  const ExecSync = () => Object.assign(Readable.from(messages), { cancel });
  const ContainerOutput = () => {
    const call = new PassThrough({ objectMode: true });
    call.write = () => true; // what the daemon says
    for (const message of messages) call.push(message);
    return Object.assign(call, { cancel });
  };
  return { agent: { ExecSync, ContainerOutput } as unknown as AgentStub, cancelled: () => cancelled };
}

const exec = (events: readonly object[], maxBytes: number) =>
  runExec(stub(events).agent, { id: 'c', command: ['true'], timeoutMs: 0, maxBytes }, new Set(), never);

describe('the output of an exec', () => {
  it('is put together from parts of any size, and cut at the limit', async () => {
    const text = Array.from({ length: 10_000 }, (_, index) => String(index % 10)).join('');
    const bytes = Array.from(text, (digit) => ({ stdout: Buffer.from(digit) }));
    const events = [...bytes, { stderr: Buffer.from('e') }, { exit: { code: 3, timed_out: false } }];
    const { stdout, stderr } = await exec(events, 9000);
    assert.deepEqual([stdout.toString(), stderr.toString()], [text.slice(0, 9000), 'e']);
    assert.equal((await exec(events, 20_000)).stdout.toString(), text);
  });

  it('ends with a code as processes have them, whatever the guest says', async () => {
    const codes = [0, 255, 256, -1, 2 ** 31 - 1];
    const outcomes = codes.map((code) => exec([{ exit: { code, timed_out: false } }], 10));
    assert.deepEqual(
      (await Promise.all(outcomes)).map(({ exitCode }) => exitCode),
      [0, 255, 0, 255, 255],
    );
  });
});

describe("a container's output", () => {
  const chunk = (bytes: number) => ({
    stream: 'STDOUT',
    data: Buffer.alloc(bytes, '\n'),
    end_offset: '1',
    time_ns: '1',
  });

  it('is refused in larger pieces than an agent keeps', async () => {
    const { agent, cancelled } = stub([chunk(10), chunk(256 * 1024 + 1)]);
    let stored = 0;
    const store = async (): Promise<number> => ++stored;
    await assert.rejects(readOutput(agent, 'c', store, new Set()), { code: 'internal' });
    assert.deepEqual([stored, cancelled()], [1, true]);
  });
});

describe('a client whose VM is gone', () => {
  const streams = { stdin: false, stdout: true, stderr: true };

  it('says so, whatever is asked of it', async () => {
    const client = connectAgent('/nonexistent/agent.sock');
    client[Symbol.dispose]();
    const asked = [
      client.info(never),
      client.waitContainer('c'),
      client.removeContainer('c'),
      client.output('c', async () => 0),
      client.execSync('c', ['true'], 0, 1, never),
      client.exec({ containerId: 'c', command: ['true'], tty: false, env: {}, size: undefined, ...streams }, never),
      client.attach('c', streams, never),
      client.sftp('c', never),
      client.portForward(80, never),
    ];
    const gone = { code: 'unavailable', message: /gone/ };
    await Promise.all(asked.map((answer) => assert.rejects(answer, gone)));
  });
});
