import type { Config } from '../config/schema.ts';
import type { Semaphore } from '../lib/async.ts';
import type { Logger } from '../lib/logger.ts';
import type { Claims, Disk } from './disk.ts';
import type { ImageRecord } from './record.ts';
import type { SharedTasks } from './shared-tasks.ts';

/** What the parts of the image port share. */
export interface Context {
  readonly disk: Disk;
  readonly config: Config['image'];
  /** by id, in the order of insertion: the store's content */
  readonly records: Map<string, ImageRecord>;
  readonly claims: Claims;
  /** by diff id */
  readonly conversions: SharedTasks<void>;
  readonly converting: Semaphore;
  readonly converterUid: number;
  readonly log: Logger;
  /** Stores the image under its names, on top of those it has. */
  put(record: ImageRecord): ImageRecord;
}
