import { deepStrictEqual, match, notStrictEqual, strictEqual } from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../src/lib/exec.ts';

export interface CrictlAnswer {
  readonly args: readonly string[];
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

export const CRICTL = join(import.meta.dirname, '../../../.cache/bin/crictl');
/** crictl prints nothing while it waits, and without KVM a VM boots for seconds */
const TIMEOUT_MS = 180_000;
const ANY_CODE = Array.from({ length: 256 }, (_, code) => code);
const MAX_SHOWN_COMMANDS = 4;
const MAX_SHOWN_CHARS = 4000;

/** The real crictl, with a configuration file that names one daemon's socket. */
export class Crictl {
  readonly #configFile: string;
  readonly #signal: AbortSignal;
  #history: CrictlAnswer[] = [];

  private constructor(configFile: string, signal: AbortSignal) {
    this.#configFile = configFile;
    this.#signal = signal;
  }

  static async configure(directory: string, socket: string, signal: AbortSignal): Promise<Crictl> {
    const configFile = join(directory, 'crictl.yaml');
    const lines = [
      `runtime-endpoint: unix://${socket}`,
      `image-endpoint: unix://${socket}`,
      'timeout: 10',
      'debug: false',
    ];
    await writeFile(configFile, `${lines.join('\n')}\n`);
    return new Crictl(configFile, signal);
  }

  /** Runs it whatever its exit code. */
  async run(...args: string[]): Promise<CrictlAnswer> {
    const options = { okCodes: ANY_CODE, timeoutMs: TIMEOUT_MS, signal: this.#signal };
    const { stdout, stderr, exitCode } = await run(CRICTL, ['--config', this.#configFile, ...args], options);
    const answer = { args, stdout, stderr, exitCode };
    this.#history.push(answer);
    return answer;
  }

  /** Returns what it printed, without the last line feed; throws unless it ended well. */
  async ok(...args: string[]): Promise<string> {
    const { stdout, stderr, exitCode } = await this.run(...args);
    strictEqual(exitCode, 0, `crictl ${args[0]} ended with code ${exitCode}: ${stderr.trim()}`);
    return stdout.replace(/\n$/, '');
  }

  /** For the commands that have `-o json`. */
  async json<T>(command: string, ...args: string[]): Promise<T> {
    return JSON.parse(await this.ok(command, '-o', 'json', ...args)) as T;
  }

  /** Throws unless it fails and says so in these words. */
  async fails(words: RegExp, ...args: string[]): Promise<CrictlAnswer> {
    const answer = await this.run(...args);
    notStrictEqual(answer.exitCode, 0, `crictl ${args[0]} ended with code 0`);
    match(answer.stderr, words);
    return answer;
  }

  /** The ids that `-q` prints are these, in any order. */
  async lists(ids: readonly string[], command: string, ...args: string[]): Promise<void> {
    const printed = (await this.ok(command, '-q', ...args)).split('\n').filter((line) => line !== '');
    deepStrictEqual(printed.toSorted(), ids.toSorted());
  }

  forget(): void {
    this.#history = [];
  }

  /** The commands since the last `forget`, with what they printed. */
  describe(): string {
    // the last few: a step that waits for something has many
    const shown = this.#history.slice(-MAX_SHOWN_COMMANDS).map(({ args, stdout, stderr, exitCode }) => {
      const output = `${stdout}${stderr}`.slice(0, MAX_SHOWN_CHARS);
      return `$ crictl ${args.map(quoted).join(' ')}\n${output.trimEnd()}\n(exit code ${exitCode})`;
    });
    return shown.join('\n');
  }
}

function quoted(argument: string): string {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}
