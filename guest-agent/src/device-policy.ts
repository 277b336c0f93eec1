/**
 * Which devices a container can open, by a program of the kernel's BPF at its cgroup. crun would make and attach one for each
 * container; the kernel's check of it is a tenth of a start without KVM. This one is checked once, in the template.
 */
import { closeSync, openSync } from 'node:fs';
import { attachDeviceProgram, loadDeviceProgram } from './native.ts';

/** Character devices that every container has: OCI's runtime specification, default devices; and net/tun, as crun has it. */
const ALLOWED = [
  { major: 1, minors: [3, 5, 7, 8, 9] }, // null, zero, full, random, urandom
  { major: 5, minors: [0, 1, 2] }, // tty, console, ptmx
  { major: 10, minors: [200] }, // net/tun
  { major: 136, minors: 'all' }, // terminals
] as const;

// Linux uapi/linux/bpf.h: struct bpf_cgroup_dev_ctx and its values
const [TYPE, MAJOR, MINOR] = [0, 4, 8];
const CHARACTER_DEVICE = 2;
const MAKE_NODE = 1;

// Documentation/bpf/standardization/instruction-set.rst
const LOAD_WORD = 0x61;
const COPY = 0xbf;
const AND = 0x54;
const SHIFT_RIGHT = 0x74;
const SET = 0xb7;
const JUMP_IF_EQUAL = 0x15;
const JUMP_IF_NOT = 0x55;
const EXIT = 0x95;

interface Instruction {
  readonly code: number;
  readonly to?: number;
  readonly from?: number;
  readonly offset?: number;
  readonly value?: number;
}

/** Registers: 0 the answer, 1 the context, 2 the device's type, 3 the access, 4 and 5 its numbers. */
function instructions(): Instruction[] {
  const allow = [{ code: EXIT }];
  const rules = ALLOWED.flatMap(({ major, minors }): Instruction[] => {
    if (minors === 'all') return [{ code: JUMP_IF_NOT, to: 4, value: major, offset: 1 }, ...allow];
    const checks = minors.flatMap((minor) => [{ code: JUMP_IF_NOT, to: 5, value: minor, offset: 1 }, ...allow]);
    return [{ code: JUMP_IF_NOT, to: 4, value: major, offset: checks.length }, ...checks];
  });
  return [
    { code: LOAD_WORD, to: 2, from: 1, offset: TYPE },
    { code: COPY, to: 3, from: 2 },
    { code: AND, to: 2, value: 0xffff },
    { code: SHIFT_RIGHT, to: 3, value: 16 },
    { code: LOAD_WORD, to: 4, from: 1, offset: MAJOR },
    { code: LOAD_WORD, to: 5, from: 1, offset: MINOR },
    { code: SET, to: 0, value: 1 },
    // a node alone opens nothing
    { code: JUMP_IF_NOT, to: 3, value: MAKE_NODE, offset: 1 },
    ...allow,
    { code: JUMP_IF_EQUAL, to: 2, value: CHARACTER_DEVICE, offset: 2 },
    { code: SET, to: 0, value: 0 },
    { code: EXIT },
    ...rules,
    { code: SET, to: 0, value: 0 },
    { code: EXIT },
  ];
}

/** Each is 8 bytes: code, registers, offset of a jump or a load, value. */
function assemble(program: readonly Instruction[]): Buffer {
  const bytes = Buffer.alloc(program.length * 8);
  for (const [index, { code, to = 0, from = 0, offset = 0, value = 0 }] of program.entries()) {
    bytes.writeUInt8(code, index * 8);
    bytes.writeUInt8(to | (from << 4), index * 8 + 1);
    bytes.writeInt16LE(offset, index * 8 + 2);
    bytes.writeInt32LE(value, index * 8 + 4);
  }
  return bytes;
}

let program: number | undefined;

/** Lets what runs in the cgroup, and below it, open the devices that every container has, and no others. */
export function allowUsualDevices(cgroup: string): void {
  program ??= loadDeviceProgram(assemble(instructions()));
  const fd = openSync(cgroup, 'r');
  try {
    attachDeviceProgram(program, fd);
  } finally {
    closeSync(fd);
  }
}
