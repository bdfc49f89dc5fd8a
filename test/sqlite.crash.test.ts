// Processes that write to a log in SQLite and are killed, and what the next one finds. Each writer says what it
// has committed, so what was said must be there.

import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { SqliteLog } from '../lib/sqlite.ts';
import { often } from './helpers/long.ts';
import { entry, folderFor, openLog, readAll, sqlite } from './helpers/sqlite.ts';

const WRITER = fileURLToPath(new URL('./fixtures/sqlite-writer.ts', import.meta.url));
const TOPICS = ['even', 'odd'];

if (sqlite === undefined) {
  it('ends a process that opens a log on this Node with the version that is needed', async (t) => {
    const { child, output } = startWriter(t, join(folderFor(t), 'log.db'));
    let errors = '';
    child.stderr!.setEncoding('utf8').on('data', (text) => {
      errors += text;
    });
    const [code] = await once(child, 'close');
    assert.deepEqual([code, output.text], [1, '']);
    assert.match(errors, /ERR_SSE_SQLITE_MISSING/);
  });
} else crashes(often(6, 60));

function crashes(kills: number): void {
  it('keeps all that was committed before a kill, whole batches alone, in the same epoch', async (t) => {
    const path = join(folderFor(t), 'log.db');
    let said = { epoch: 0, head: 0 };
    for (let kill = 0; kill < kills; kill++) {
      const { child, output } = startWriter(t, path, kill % 2 === 0 ? 'process' : 'power');
      await output.lines(2 + kill * 7);
      child.kill('SIGKILL');
      await once(child, 'close');
      const last = output.said();
      if (kill > 0) assert.equal(last.epoch, said.epoch);
      said = last;
    }
    const log = openLog(t, path);
    assert.deepEqual([log.epochs.length, log.epochs[0]!.epoch], [1, said.epoch]);
    assert.ok(log.head >= said.head, `${log.head} of ${said.head}`);
    assertWhole(log);
  });

  it('opens after a kill at any moment, also while the file is made', async (t) => {
    const folder = folderFor(t);
    let open = 0;
    // Later and later, until some had time to open it.
    for (let kill = 0; open < kills / 2; kill++) {
      const path = join(folder, `${kill}.db`);
      const { child, output } = startWriter(t, path);
      while (!existsSync(`${path}-lock`)) await delay(2);
      await delay(kill * 4);
      child.kill('SIGKILL');
      await once(child, 'close');
      const log = new SqliteLog(path);
      const said = output.said();
      assert.ok(log.head >= said.head);
      if (said.epoch > 0) {
        assert.equal(log.epochs.at(-1)!.epoch, said.epoch);
        open++;
      }
      assertWhole(log);
      log.close();
    }
  });

  it('releases the file when the process dies, and not before', async (t) => {
    const path = join(folderFor(t), 'log.db');
    const { child, output } = startWriter(t, path, 'process', '', 3);
    await output.done();
    assert.throws(() => new SqliteLog(path), { code: 'ERR_SSE_SQLITE_IN_USE' });
    child.kill('SIGKILL');
    await once(child, 'close');
    assert.equal(openLog(t, path).head, output.said().head);
  });

  it('is read and copied by other processes while it is written', async (t) => {
    const folder = folderFor(t);
    const path = join(folder, 'log.db');
    const { child, output } = startWriter(t, path);
    await output.lines(50);
    const before = output.said();
    const copies = ['vacuum', 'backup'].map((name) => join(folder, `${name}.db`)) as [string, string];
    await runScript(
      `new DatabaseSync(process.argv[1]).exec("VACUUM INTO '" + process.argv[2] + "'")`,
      path,
      copies[0],
    );
    // Node 22.13 has no `backup` yet.
    await runScript(
      `const from = new DatabaseSync(process.argv[1], { readOnly: true });
       if (sqlite.backup !== undefined) await sqlite.backup(from, process.argv[2]);
       else from.exec("VACUUM INTO '" + process.argv[2] + "'")`,
      path,
      copies[1],
    );
    const written = output.said().head;
    await output.lines(10);
    child.kill('SIGKILL');
    await once(child, 'close');
    for (const copy of copies) {
      const log = openLog(t, copy);
      const { end, epoch } = log.epochs[0]!;
      assert.deepEqual([log.epochs.length, epoch], [2, before.epoch]);
      assert.ok(end! >= before.head && log.head === end! + 1);
      assertWhole(log, end);
    }
    const log = openLog(t, path);
    assert.ok(log.head > written && log.epochs.length === 1);
  });

  // What a loss of power leaves: the file as it was synchronised last, and a part of the WAL.
  const losses: [
    string,
    { durability?: 'process' | 'power'; boot: string; wal: number; mark?: boolean; is: 'kept' | 'new' },
  ][] = [
    ['keeps the epoch after a kill', { boot: 'one', wal: 1, is: 'kept' }],
    [
      'begins a new epoch after a loss of power, also where nothing is missing',
      { boot: 'two', wal: 1, is: 'new' },
    ],
    [
      'begins a new epoch after a loss of power that took a part of the WAL',
      { boot: 'two', wal: 0.5, is: 'new' },
    ],
    ['begins a new epoch after a loss of power that took all of the WAL', { boot: 'two', wal: 0, is: 'new' }],
    [
      'begins a new epoch after a loss of power that took the WAL and the mark',
      { boot: 'two', wal: 0, mark: false, is: 'new' },
    ],
    [
      'begins a new epoch where a part of the WAL was taken away by hand',
      { boot: 'one', wal: 0.5, is: 'new' },
    ],
    ['begins a new epoch where the WAL was deleted by hand', { boot: 'one', wal: 0, is: 'new' }],
    [
      'keeps the epoch after a loss of power where each commit is synchronised',
      { durability: 'power', boot: 'two', wal: 1, is: 'kept' },
    ],
    ['begins a new epoch where the disk had lied', { durability: 'power', boot: 'two', wal: 0.5, is: 'new' }],
  ];
  for (const [what, { durability = 'process', boot, wal, mark = true, is }] of losses) {
    it(what, async (t) => {
      const path = join(folderFor(t), 'log.db');
      // A first life that ends well: its mark of a clean end must not outlive the second one's first event.
      const first = new SqliteLog(path, { bootId: () => 'one' });
      first.append([entry(1, 'odd')]);
      first.close();
      const { child, output } = startWriter(t, path, durability, 'one', 40);
      await output.done();
      child.kill('SIGKILL');
      await once(child, 'close');
      const { epoch, head } = output.said();
      if (wal === 0) rmSync(`${path}-wal`);
      else truncateSync(`${path}-wal`, Math.floor(statSync(`${path}-wal`).size * wal));
      if (!mark) rmSync(`${path}-mark`);
      const log = openLog(t, path, { bootId: () => boot });
      assert.equal(log.epochs[0]!.epoch, epoch);
      if (is === 'kept') assert.deepEqual([log.epochs.length, log.head], [1, head]);
      else {
        const end = log.epochs[0]!.end!;
        assert.deepEqual([log.epochs.length, log.epochs[1]!.base, log.head], [2, end + 1, end + 1]);
        assert.ok(wal === 1 ? end === head : end < head, `${end} of ${head}`);
      }
    });
  }

  it('begins a new epoch where a copy of the running file and its WAL is put back', async (t) => {
    const folder = folderFor(t);
    const path = join(folder, 'log.db');
    const { child, output } = startWriter(t, path);
    await output.lines(20);
    child.kill('SIGSTOP');
    for (const suffix of ['', '-wal']) copyFileSync(path + suffix, `${join(folder, 'copy')}${suffix}`);
    child.kill('SIGCONT');
    await output.lines(20);
    child.kill('SIGKILL');
    await once(child, 'close');
    const { epoch, head } = output.said();
    rmSync(`${path}-shm`);
    // In place, so that neither the inode nor the time of birth is another.
    for (const suffix of ['', '-wal'])
      writeFileSync(path + suffix, readFileSync(join(folder, 'copy') + suffix));
    const log = openLog(t, path);
    assert.deepEqual([log.epochs.length, log.epochs[0]!.epoch], [2, epoch]);
    assert.ok(log.head < head);
    assertWhole(log, log.epochs[0]!.end);
  });
}

/** Every event up to the head is there once, and so is every other event of its batch. An epoch's base is none. */
function assertWhole(log: SqliteLog, head = log.head): void {
  const entries = readAll(log, TOPICS, 0, 100_000);
  assert.deepEqual(
    entries.map(({ seq }) => seq),
    Array.from({ length: head }, (_, i) => i + 1).filter(
      (seq) => !log.epochs.some(({ base }) => base === seq),
    ),
  );
  const [, part, size] = /(\d+)\/(\d+)$/.exec(Buffer.from(entries.at(-1)?.frame ?? []).toString()) ?? [];
  assert.equal(part, size);
}

interface Output {
  readonly text: string;
  /** Waits for that many more lines. */
  lines(count: number): Promise<void>;
  done(): Promise<void>;
  /** What was said last; zeros before. */
  said(): { readonly epoch: number; readonly head: number };
}

function startWriter(
  t: TestContext,
  path: string,
  durability = 'process',
  boot = '',
  batches?: number,
): { readonly child: ChildProcess; readonly output: Output } {
  const args = ['--no-warnings', '--import', import.meta.resolve('tsx'), WRITER, path, durability, boot];
  if (batches !== undefined) args.push(String(batches));
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(() => child.kill('SIGKILL'));
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part) => {
    text += part;
  });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (part) => {
    errors += part;
  });
  const until = async (isThere: () => boolean): Promise<void> => {
    while (!isThere()) {
      assert.equal(child.exitCode, null, errors);
      await delay(5);
    }
  };
  const count = (): number => text.split('\n').length - 1;
  const output: Output = {
    get text() {
      return text;
    },
    lines: (more) => {
      const from = count();
      return until(() => count() >= from + more);
    },
    done: () => until(() => text.endsWith('done\n')),
    said: () => {
      const [epoch = 0, head = 0] =
        text
          .split('\n')
          .slice(0, -1)
          .filter((line) => line !== 'done')
          .at(-1)
          ?.split(' ')
          .map(Number) ?? [];
      return { epoch, head };
    },
  };
  return { child, output };
}

/** Runs a script in another process. `argv[1]` and `argv[2]` are the paths. */
async function runScript(script: string, ...paths: readonly string[]): Promise<void> {
  const source = `import * as sqlite from 'node:sqlite'; const { DatabaseSync } = sqlite; ${script}`;
  await promisify(execFile)(process.execPath, [
    '--no-warnings',
    '--input-type=module',
    '-e',
    source,
    '--',
    ...paths,
  ]);
}
