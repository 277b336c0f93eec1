import { createHash, randomInt } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { run } from '../../lib/exec.ts';
import { readFileIfExists, removeTree, writeFileAtomic } from '../../lib/files.ts';
import type { Logger } from '../../lib/logger.ts';
import { startTicks } from '../../lib/processes.ts';
import type { ScratchDisks, VmSpec } from '../contracts.ts';
import { FIRST_INHERITED, type LaunchOptions } from '../launch.ts';
import { commandLine } from '../qemu/command-line.ts';
import { buildTemplate } from './build.ts';
import { cloneMachine } from './clone.ts';
import { templateFiles } from './files.ts';

export interface Template {
  readonly directory: string;
}

export interface KeeperOptions {
  /** templates of this guest image, shared by all daemons of the host */
  readonly home: string;
  /** changes with the guest image */
  readonly imageInputs: string;
  readonly launch: LaunchOptions;
  readonly disks: ScratchDisks;
  /** where its VMs have their directories while it is made */
  readonly vmHome: string;
  readonly uid: number;
  readonly log: Logger;
}

/** The template of this shape, if it is there, whole and made from the same things. */
export async function findTemplate(options: KeeperOptions): Promise<Template | undefined> {
  const { template, identity } = await locate(options);
  return (await isWhole(template.directory, identity)) ? template : undefined;
}

/** A new template of this shape, tried by a clone before anybody uses it. */
export async function makeTemplate(options: KeeperOptions, signal: AbortSignal): Promise<Template> {
  const { home, imageInputs, log } = options;
  const { template, identity } = await locate(options);
  const started = performance.now();
  await mkdir(home, { recursive: true, mode: 0o711 });
  await removeStale(home, imageInputs);
  await make(template.directory, identity, options, signal);
  const ms = Math.round(performance.now() - started);
  log.info({ directory: template.directory, ms }, 'the VM template is ready: pods start as clones');
  return template;
}

async function locate(options: KeeperOptions): Promise<{ readonly template: Template; readonly identity: string }> {
  const { home, imageInputs } = options;
  const identity = await identityOf(options);
  const directory = join(home, `${imageInputs.slice(0, 12)}-${identity.slice(0, 12)}`);
  return { template: { directory }, identity };
}

async function make(directory: string, identity: string, options: KeeperOptions, signal: AbortSignal): Promise<void> {
  const { vmHome, launch, disks, uid } = options;
  const work = `${directory}.new-${process.pid}`;
  try {
    await buildTemplate(spec(options, 1), work, join(vmHome, `template-${process.pid}`), disks, launch, signal);
    const scratch = join(work, 'trial.qcow2');
    await disks.renewDisk(scratch, uid, signal);
    const trialSpec = { ...spec(options, 2), scratch };
    const trial = await cloneMachine(trialSpec, join(vmHome, `trial-${process.pid}`), work, launch, signal);
    await trial[Symbol.asyncDispose]();
    await rm(scratch);
    await writeFileAtomic(templateFiles(work).seal, JSON.stringify({ identity, digest: await digestOf(work) }));
    await removeTree(directory);
    await run('mv', ['--no-target-directory', work, directory]);
  } finally {
    await removeTree(work);
  }
}

const FIRST_CID = 3;
const MAX_CID = 0x7fff_0000;

/** A VM in a network of its own, which nobody can reach; `number` keeps template and trial apart. */
function spec({ uid }: KeeperOptions, number: number): VmSpec {
  return {
    sandboxId: `template-${number}-${process.pid}`,
    cid: randomInt(FIRST_CID, MAX_CID),
    uid,
    network: { netnsPath: null, tapName: 'tap0', mac: '02:00:00:00:00:01' },
  };
}

/** Of everything that a saved state depends on: guest image, QEMU, the machine's shape and what is on its disk. */
async function identityOf(options: KeeperOptions): Promise<string> {
  const { launch, imageInputs, disks } = options;
  const { stdout: version } = await run(launch.qemu, ['--version'], { installHint: 'run bin/setup' });
  const shape = commandLine({
    ...launch,
    spec: { ...spec(options, 0), sandboxId: 'shape', uid: 0, cid: 0, scratch: disks.diskVersion },
    directory: '/shape',
    memory: { fd: FIRST_INHERITED, isPrivate: false },
    incoming: true,
    vsock: 'plugged later',
    extraKernelArguments: [],
  });
  return createHash('sha256').update(JSON.stringify({ imageInputs, version, shape })).digest('hex');
}

/** A truncated or changed file must never run: it would be a VM in a state that nobody has seen. */
async function isWhole(directory: string, identity: string): Promise<boolean> {
  const seal = await readFileIfExists(templateFiles(directory).seal);
  if (seal === undefined) return false;
  try {
    const stored = sealSchema.parse(JSON.parse(seal));
    return stored.identity === identity && stored.digest === (await digestOf(directory));
  } catch {
    return false; // a damaged seal or a missing file: as good as no template
  }
}

const sealSchema = z.object({ identity: z.string(), digest: z.string() });

async function digestOf(directory: string): Promise<string> {
  const { ram, state, scratch } = templateFiles(directory);
  const hash = createHash('sha256');
  for (const file of [state, scratch, ram])
    await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash, { end: false });
  return hash.digest('hex');
}

/** Templates of guest images that are no more. */
async function removeStale(home: string, imageInputs: string): Promise<void> {
  for (const name of await readdir(home)) {
    if (!name.startsWith(imageInputs.slice(0, 12)) || (await isAbandoned(name)))
      await rm(join(home, name), { recursive: true, force: true });
  }
}

/** `<template>.new-<pid>` of a daemon that is gone. */
async function isAbandoned(name: string): Promise<boolean> {
  const maker = /\.new-(\d+)$/.exec(name)?.[1];
  return maker !== undefined && (await startTicks(Number(maker))) === undefined;
}

export const templateHome = (guestImage: string): string =>
  join(dirname(guestImage), `${basename(guestImage)}.templates`);
