import { match, notStrictEqual, strictEqual } from 'node:assert/strict';
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { join } from 'node:path';
import { run } from '../../../src/lib/exec.ts';
import { PROGRAMS } from './programs.ts';

export interface KubectlAnswer {
  readonly args: readonly string[];
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

export const KUBECTL = join(PROGRAMS, 'kubectl');
/** without KVM everything in a guest is slow */
const TIMEOUT_MS = 600_000;
const ANY_CODE = Array.from({ length: 256 }, (_, code) => code);
const MAX_SHOWN_COMMANDS = 4;
const MAX_SHOWN_CHARS = 4000;

/** The real kubectl, as the cluster's administrator. */
export class Kubectl {
  readonly #globals: readonly string[];
  readonly #signal: AbortSignal;
  #history: KubectlAnswer[] = [];

  constructor(kubeconfig: string, directory: string, signal: AbortSignal) {
    this.#globals = [`--kubeconfig=${kubeconfig}`, `--cache-dir=${join(directory, 'kubectl-cache')}`];
    this.#signal = signal;
  }

  /** Runs it whatever its exit code. */
  async run(args: readonly string[], input = ''): Promise<KubectlAnswer> {
    const options = { okCodes: ANY_CODE, timeoutMs: TIMEOUT_MS, signal: this.#signal, input };
    const { stdout, stderr, exitCode } = await run(KUBECTL, [...this.#globals, ...args], options);
    const answer = { args, stdout, stderr, exitCode };
    this.#history.push(answer);
    return answer;
  }

  /** Returns what it printed, without the last line feed; throws unless it ended well. */
  async ok(...args: string[]): Promise<string> {
    return this.#fine(await this.run(args));
  }

  async okWithInput(input: string, ...args: string[]): Promise<string> {
    return this.#fine(await this.run(args, input));
  }

  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.ok(...args, '-o', 'json')) as T;
  }

  /** Makes or changes objects; JSON is YAML. */
  async apply(...objects: readonly object[]): Promise<void> {
    const list = { apiVersion: 'v1', kind: 'List', items: objects };
    await this.okWithInput(JSON.stringify(list), 'apply', '-f', '-');
  }

  /** Throws unless it fails and says so in these words. */
  async fails(words: RegExp, ...args: string[]): Promise<KubectlAnswer> {
    const answer = await this.run(args);
    notStrictEqual(answer.exitCode, 0, `kubectl ${args[0]} ended with code 0`);
    match(answer.stderr, words);
    return answer;
  }

  /** One that goes on, for whoever reads it; the caller ends it. */
  start(...args: string[]): ChildProcessWithoutNullStreams {
    const child = spawn(KUBECTL, [...this.#globals, ...args], { timeout: TIMEOUT_MS, killSignal: 'SIGKILL' });
    child.stdin.on('error', () => undefined);
    return child;
  }

  /** The words of a command, for programs that start it themselves. */
  command(...args: string[]): string[] {
    return [KUBECTL, ...this.#globals, ...args];
  }

  forget(): void {
    this.#history = [];
  }

  /** The commands since the last `forget`, with what they printed. */
  describe(): string {
    const shown = this.#history.slice(-MAX_SHOWN_COMMANDS).map(({ args, stdout, stderr, exitCode }) => {
      const output = `${stdout}${stderr}`.slice(-MAX_SHOWN_CHARS);
      return `$ kubectl ${args.join(' ')}\n${output.trimEnd()}\n(exit code ${exitCode})`;
    });
    return shown.join('\n');
  }

  #fine({ args, stdout, stderr, exitCode }: KubectlAnswer): string {
    strictEqual(exitCode, 0, `kubectl ${args[0]} ended with code ${exitCode}: ${stderr.trim()}`);
    return stdout.replace(/\n$/, '');
  }
}
