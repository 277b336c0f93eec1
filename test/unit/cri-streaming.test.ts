import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { CaissonError, type ErrorCode } from '../../src/lib/errors.ts';
import { fakeStreaming, startServer } from './cri-fakes.ts';

test('Exec, Attach and PortForward answer with what the streaming server gives', async () => {
  await using cri = await startServer();
  const streams = { stdin: true, stdout: true, stderr: false };
  const exec = await cri.runtime.Exec({ container_id: 'c1', cmd: ['ls', '-l'], tty: true, ...streams });
  assert.deepEqual(JSON.parse(exec.url.slice('exec '.length)), {
    containerId: 'c1',
    command: ['ls', '-l'],
    tty: true,
    ...streams,
  });
  const attach = await cri.runtime.Attach({ container_id: 'c1', tty: true, ...streams });
  assert.deepEqual(JSON.parse(attach.url.slice('attach '.length)), { containerId: 'c1', tty: true, ...streams });
  const forward = await cri.runtime.PortForward({ pod_sandbox_id: 's1', port: [80, 443] });
  assert.deepEqual(JSON.parse(forward.url.slice('port-forward '.length)), { sandboxId: 's1', ports: [80, 443] });
  await assert.rejects(cri.runtime.Exec({ cmd: ['ls'] }), { code: status.INVALID_ARGUMENT });
  await assert.rejects(cri.runtime.Attach({}), { code: status.INVALID_ARGUMENT });
  await assert.rejects(cri.runtime.PortForward({}), { code: status.INVALID_ARGUMENT });
});

test('what the streaming server refuses is refused with its code', async () => {
  const refusal = (code: ErrorCode) => () => {
    throw new CaissonError(code, 'no');
  };
  const streaming = fakeStreaming({
    execUrl: refusal('failed_precondition'),
    attachUrl: refusal('not_found'),
    portForwardUrl: refusal('resource_exhausted'),
  });
  await using cri = await startServer({ streaming });
  await assert.rejects(cri.runtime.Exec({ container_id: 'c' }), { code: status.FAILED_PRECONDITION });
  await assert.rejects(cri.runtime.Attach({ container_id: 'c' }), { code: status.NOT_FOUND });
  await assert.rejects(cri.runtime.PortForward({ pod_sandbox_id: 's' }), { code: status.RESOURCE_EXHAUSTED });
});
