import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { CaissonError } from '../../src/lib/errors.ts';
import { openSettings, openStore } from '../../src/state/index.ts';

interface Value {
  readonly n: number;
}

const storeModule = resolve(import.meta.dirname, '../../src/state/index.ts');
let directory: string;
let path: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'caisson-state-'));
  path = join(directory, 'state.db');
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

function failure(code: string, message: RegExp, hint?: RegExp) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof CaissonError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    if (hint) assert.match(error.hint ?? '', hint);
    return true;
  };
}

/** A database with enough records to span many pages, checkpointed into the main file. */
function fill(records: number): void {
  using store = openStore(path);
  const sandboxes = store.collection<{ text: string }>('sandbox');
  store.transaction(() => {
    for (let i = 0; i < records; i++) sandboxes.insert(`id${i}`, `name${i}`, { text: 'x'.repeat(500) });
  });
}

describe('records', () => {
  it('keeps records over a restart, in the order of insertion', () => {
    {
      using store = openStore(path);
      const sandboxes = store.collection<Value>('sandbox');
      for (const id of ['c', 'a', 'b']) sandboxes.insert(id, `name-${id}`, { n: 1 });
      sandboxes.update('a', { n: 2 });
      sandboxes.delete('c');
      sandboxes.delete('unknown');
    }
    using store = openStore(path);
    assert.deepEqual(store.collection<Value>('sandbox').all(), [
      { id: 'a', name: 'name-a', value: { n: 2 } },
      { id: 'b', name: 'name-b', value: { n: 1 } },
    ]);
  });

  it('names the holder of a taken name or id, and frees both on delete', () => {
    using store = openStore(path);
    const sandboxes = store.collection<Value>('sandbox');
    sandboxes.insert('one', 'web', { n: 1 });
    assert.throws(
      () => sandboxes.insert('two', 'web', { n: 2 }),
      failure('already_exists', /web already exists with id one/),
    );
    assert.throws(() => sandboxes.insert('one', 'other', { n: 2 }), failure('already_exists', /with id one/));
    store.collection<Value>('container').insert('one', 'web', { n: 3 });
    sandboxes.delete('one');
    sandboxes.insert('two', 'web', { n: 2 });
    assert.deepEqual(sandboxes.all(), [{ id: 'two', name: 'web', value: { n: 2 } }]);
  });

  it('refuses to update what is not there and to store what is not JSON', () => {
    using store = openStore(path);
    const settings = store.collection<unknown>('setting');
    assert.throws(() => settings.update('x', 1), failure('not_found', /no setting x/));
    assert.throws(() => settings.insert('x', 'x', undefined), failure('internal', /JSON/));
  });
});

describe('transactions', () => {
  it('does all or nothing', () => {
    using store = openStore(path);
    const sandboxes = store.collection<Value>('sandbox');
    assert.throws(() =>
      store.transaction(() => {
        sandboxes.insert('a', 'a', { n: 1 });
        throw new Error('no');
      }),
    );
    assert.deepEqual(sandboxes.all(), []);
    assert.equal(
      store.transaction(() => {
        sandboxes.insert('a', 'a', { n: 1 });
        return 7;
      }),
      7,
    );
    assert.equal(sandboxes.all().length, 1);
  });

  it('undoes a nested transaction alone when its error is caught', () => {
    using store = openStore(path);
    const sandboxes = store.collection<Value>('sandbox');
    store.transaction(() => {
      sandboxes.insert('a', 'a', { n: 1 });
      assert.throws(() =>
        store.transaction(() => {
          sandboxes.insert('b', 'b', { n: 1 });
          sandboxes.insert('a', 'a', { n: 1 });
        }),
      );
    });
    assert.deepEqual(
      sandboxes.all().map((record) => record.id),
      ['a'],
    );
  });

  it('rejects work that waits', () => {
    using store = openStore(path);
    const sandboxes = store.collection<Value>('sandbox');
    const work = async (): Promise<void> => {
      sandboxes.insert('a', 'a', { n: 1 });
    };
    assert.throws(() => void store.transaction(work), failure('internal', /must not wait/));
    assert.deepEqual(sandboxes.all(), []);
  });
});

describe('the file', () => {
  it('belongs to one store at a time and only to its owner', async () => {
    const first = openStore(path);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.throws(
      () => openStore(path, { busyTimeoutMs: 10 }),
      (error) => {
        return failure('failed_precondition', new RegExp(`^another caisson uses ${directory}$`), /--root/)(error);
      },
    );
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    openStore(path)[Symbol.dispose]();
  });

  it('is locked for other processes, and nothing committed is lost when the owner is killed', async () => {
    const script = `
      const { openStore } = await import(${JSON.stringify(storeModule)});
      const store = openStore(${JSON.stringify(path)});
      store.collection('sandbox').insert('a', 'a', { n: 1 });
      process.stdout.write('ready');
      setInterval(() => store, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    await once(child.stdout, 'data');
    assert.throws(() => openStore(path, { busyTimeoutMs: 50 }), failure('failed_precondition', /another caisson uses/));
    const closed = once(child, 'close');
    child.kill('SIGKILL');
    await closed;
    using store = openStore(path);
    assert.equal(store.collection<Value>('sandbox').all().length, 1);
  });

  it('is refused when it is no database, and left as it was', async () => {
    await writeFile(path, 'garbage '.repeat(1000));
    assert.throws(
      () => openStore(path),
      failure('failed_precondition', new RegExp(`${path} is damaged`), /move .* away/),
    );
    assert.equal(await readFile(path, 'utf8'), 'garbage '.repeat(1000));
  });

  for (const fraction of [0, 0.1, 0.5, 0.9]) {
    it(`is refused when it was cut to ${fraction * 100} %, and left as it was`, async () => {
      fill(200);
      const size = Math.floor((await stat(path)).size * fraction);
      await truncate(path, size);
      assert.throws(
        () => openStore(path),
        failure('failed_precondition', new RegExp(`${path} is damaged`), /move .* away/),
      );
      assert.equal((await stat(path)).size, size);
    });
  }

  it("is refused when it is somebody else's database", () => {
    const foreign = new DatabaseSync(path);
    foreign.exec('CREATE TABLE t (x)');
    foreign.close();
    assert.throws(() => openStore(path), failure('failed_precondition', /not one of caisson/));
  });

  it('is refused when a newer version wrote it', () => {
    openStore(path)[Symbol.dispose]();
    const newer = new DatabaseSync(path);
    newer.exec('PRAGMA user_version = 99');
    newer.close();
    assert.throws(() => openStore(path), failure('failed_precondition', /newer caisson/, /schema 99/));
  });

  it('names the record that is not JSON', () => {
    fill(1);
    const raw = new DatabaseSync(path);
    raw.exec("UPDATE records SET value = '{'");
    raw.close();
    using store = openStore(path);
    assert.throws(() => store.collection('sandbox').all(), failure('failed_precondition', /sandbox id0 is not JSON/));
  });

  it('starts empty after the damaged one was moved away, whatever its log says', async () => {
    const first = openStore(path);
    first.collection<Value>('sandbox').insert('a', 'a', { n: 1 });
    await rename(path, `${path}.away`);
    using store = openStore(path);
    assert.deepEqual(store.collection('sandbox').all(), []);
    first[Symbol.dispose]();
  });

  it('needs a directory it can write to', async (t) => {
    const setEuid = process.seteuid?.bind(process);
    if (process.getuid?.() !== 0 || !setEuid) return t.skip('needs root to become somebody else');
    await chmod(directory, 0o555);
    setEuid(65534);
    try {
      assert.throws(
        () => openStore(path),
        failure('failed_precondition', /cannot .*write the database/, /mounted read-write/),
      );
    } finally {
      setEuid(0);
    }
  });

  it('needs its directory to be one', async () => {
    await writeFile(join(directory, 'file'), '');
    assert.throws(
      () => openStore(join(directory, 'file', 'state.db')),
      failure('failed_precondition', /cannot write the database/),
    );
  });
});

describe('settings', () => {
  it('are what they were set to last, also for the next daemon', () => {
    for (const value of ['10.1.0.0/24', '10.1.0.0/24', 'fd00::/64']) {
      using store = openStore(path);
      openSettings(store).set('podCidr', value);
      assert.equal(openSettings(store).get('podCidr'), value);
    }
    using store = openStore(path);
    assert.equal(openSettings(store).get('podCidr'), 'fd00::/64');
    assert.equal(openSettings(store).get('other'), undefined);
  });
});
