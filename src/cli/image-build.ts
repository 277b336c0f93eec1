import type { Config } from '../config/schema.ts';
import { buildGuestImage as build } from '../../images/guest/build.ts';
import { note, print } from './output.ts';

/** Makes the guest image where the configuration has it, unless it is up to date; says what it does. */
export async function buildGuestImage(config: Config, options: { readonly force: boolean }): Promise<void> {
  const directory = config.vm.guest_image;
  const steps = { count: 0 };
  const manifest = await build(directory, (step) => note(`guest image: [${++steps.count}/4] ${step}`), options.force);
  const packages = Object.keys(manifest.packages).length;
  const state = steps.count === 0 ? 'is up to date' : 'is ready';
  print(
    `guest image ${state} in ${directory}: kernel ${manifest.kernelRelease}, Node ${manifest.node}, crun ${manifest.crun}, ${packages} packages`,
  );
}
