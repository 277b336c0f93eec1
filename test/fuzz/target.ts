import type { Random } from './random.ts';

/** Something that must survive whatever it is sent. */
export interface FuzzTarget extends AsyncDisposable {
  /** One case; throws when something went wrong that is no clean refusal. */
  run(random: Random): Promise<void>;
  /** for the last line, such as how many cases got through */
  summary(): string;
}
