import { Transform } from 'node:stream';

const CTRL_P = 0x10;
const CTRL_Q = 0x11;

/** Passes on what is typed, until ctrl-p ctrl-q: then it calls back. A ctrl-p waits for the key after it. */
export function detachKeys(onDetach: () => void): Transform {
  let held = false;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const passed: number[] = [];
      for (const byte of chunk) {
        if (held && byte === CTRL_Q) {
          held = false;
          done(null, Buffer.from(passed));
          onDetach();
          return;
        }
        if (held) passed.push(CTRL_P);
        held = byte === CTRL_P;
        if (!held) passed.push(byte);
      }
      done(null, Buffer.from(passed));
    },
    flush(done) {
      done(null, held ? Buffer.of(CTRL_P) : undefined);
    },
  });
}
