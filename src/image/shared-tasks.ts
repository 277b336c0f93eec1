import { orAborted } from '../lib/async.ts';

interface Task<T> {
  readonly result: Promise<T>;
  readonly controller: AbortController;
  waiting: number;
}

/** Work that several callers may want at once: it is done once and aborted only when all of them have gone. */
export class SharedTasks<T> {
  readonly #tasks = new Map<string, Task<T>>();
  /** those that nobody waits for any more included */
  readonly #running = new Set<Task<T>>();

  /**
   * Joins the task of this key or starts it. Rejects with `cancelled` when `signal` aborts; the last caller to go waits
   * until the task has cleaned up.
   */
  async join(key: string, signal: AbortSignal, start: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const task = this.#tasks.get(key) ?? this.#start(key, start);
    task.waiting++;
    try {
      return await orAborted(task.result, signal);
    } finally {
      if (--task.waiting === 0) {
        this.#forget(key, task);
        task.controller.abort();
        await Promise.allSettled([task.result]);
      }
    }
  }

  /** Aborts all tasks and waits for their ends. */
  async stop(): Promise<void> {
    const tasks = [...this.#running];
    for (const task of tasks) task.controller.abort();
    await Promise.allSettled(tasks.map(({ result }) => result));
  }

  #start(key: string, start: (signal: AbortSignal) => Promise<T>): Task<T> {
    const controller = new AbortController();
    const task = { result: start(controller.signal), controller, waiting: 0 };
    this.#tasks.set(key, task);
    this.#running.add(task);
    void Promise.allSettled([task.result]).then(() => this.#running.delete(task));
    return task;
  }

  #forget(key: string, task: Task<T>): void {
    if (this.#tasks.get(key) === task) this.#tasks.delete(key);
  }
}
