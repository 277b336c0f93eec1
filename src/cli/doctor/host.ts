import { readFile, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Config } from '../../config/schema.ts';
import { exists, readFileIfExists } from '../../lib/files.ts';
import { atLeast, fail, ok, programCheck, SETUP, warn } from './check.ts';
import type { Check, Finding } from './check.ts';

const GIB = 1024 ** 3;
const LEAST_DISK_GIB = 2;
const COMFORTABLE_DISK_GIB = 10;
const NODE_LEAST = '24.0';

export const hostChecks: readonly Check[] = [
  { name: 'root', why: 'network namespaces, taps and users for VMs are made by root', find: findRoot },
  { name: 'system', why: 'the guest image and its Node are built for x86-64, from Debian packages', find: findSystem },
  { name: 'node', why: 'the daemon is TypeScript that Node runs directly', find: findNode },
  { name: 'memory', why: 'every pod is a VM with memory of its own', find: findMemory },
  { name: 'disk', why: 'images and the writable disks of pods lie in the root directory', find: findDisk },
  programCheck('ip', 'sets up network namespaces and taps', undefined, ['-V']),
  programCheck('tc', "joins a pod's tap to its CNI interface", undefined, ['-V']),
  programCheck('iptables', 'CNI plugins masquerade and map ports with it'),
];

function findRoot(): Finding {
  const uid = process.getuid?.();
  return uid === 0 ? ok('running as root') : fail(`running as user ${uid}`, 'run caisson as root: sudo caisson doctor');
}

async function findSystem(): Promise<Finding> {
  const release = (await readFileIfExists('/etc/os-release')) ?? '';
  const field = (name: string): string => new RegExp(`^${name}="?([^"\n]*)`, 'm').exec(release)?.[1] ?? '';
  const name = field('PRETTY_NAME') || 'unknown system';
  if (process.arch !== 'x64') return fail(`${name} on ${process.arch}`, 'use a machine with an x86-64 processor');
  if (field('ID') === 'debian') return ok(`${name} on x86-64`);
  return warn(`${name} on x86-64; tested on Debian 12 and 13 only`, 'install by hand what the checks below miss');
}

function findNode(): Finding {
  const { node } = process.versions;
  return atLeast(node, NODE_LEAST) ? ok(node) : fail(`${node} is too old; ${NODE_LEAST} is needed`, `${SETUP} node`);
}

async function findMemory({ vm }: Config): Promise<Finding> {
  const available = /^MemAvailable:\s+(\d+)/m.exec(await readFile('/proc/meminfo', 'utf8'))?.[1];
  const mib = Math.floor(Number(available) / 1024);
  const pods = Math.floor(mib / vm.memory_mib);
  const text = `${mib} MiB available: room for about ${pods} pods of ${vm.memory_mib} MiB`;
  if (pods >= 2) return ok(text);
  const fix = 'free some, or lower memory_mib in [vm]';
  return pods === 1 ? warn(text, fix) : fail(text, fix);
}

async function findDisk({ root }: Config): Promise<Finding> {
  let directory = root;
  while (!(await exists(directory))) directory = dirname(directory);
  const { bavail, bsize } = await statfs(directory);
  const free = (bavail * bsize) / GIB;
  const text = `${free.toFixed(1)} GiB free in ${directory}`;
  const fix = `free space there, or set root in the configuration to a larger file system`;
  if (free < LEAST_DISK_GIB) return fail(text, fix);
  return free < COMFORTABLE_DISK_GIB ? warn(text, fix) : ok(text);
}
