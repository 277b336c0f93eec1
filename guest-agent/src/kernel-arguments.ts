import { readFileSync } from 'node:fs';

/** Whether the host has put this word on the kernel's command line: src/vm/qemu/command-line.ts. */
export function hasKernelArgument(word: string): boolean {
  return readFileSync('/proc/cmdline', 'utf8').split(/\s/).includes(word);
}
