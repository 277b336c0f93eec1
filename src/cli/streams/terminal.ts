/** The terminal that a command of ours runs on. */
import type { WriteStream } from 'node:tty';
import { makeRaw } from '../../lib/raw-terminal.ts';
import type { TerminalSize } from '../../pod/contracts.ts';

/** What is typed goes through as it is, Ctrl-C included, until it is disposed of; then the terminal is as before. */
export function rawMode(): Disposable {
  const raw = makeRaw(process.stdin.fd);
  const restore = (): void => raw[Symbol.dispose]();
  // also when somebody calls process.exit
  process.once('exit', restore);
  return {
    [Symbol.dispose]: () => {
      process.off('exit', restore);
      restore();
    },
  };
}

/** Tells the size of `output` now and at each change. */
export function watchSize(output: WriteStream): (tell: (size: TerminalSize) => void) => Disposable {
  return (tell) => {
    const onResize = (): void => {
      const [columns, rows] = output.getWindowSize();
      // some terminals do not know theirs
      if (columns > 0 && rows > 0) tell({ columns, rows });
    };
    output.on('resize', onResize);
    onResize();
    return { [Symbol.dispose]: () => void output.off('resize', onResize) };
  };
}

/** The one that shows the output: it has a size. */
export function outputTerminal(): WriteStream | undefined {
  return [process.stdout, process.stderr].find((stream) => stream.isTTY);
}
