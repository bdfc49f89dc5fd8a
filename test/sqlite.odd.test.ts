// What an operator does to the file of a log: beside it, under it, and while it is in use.
import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, mkdirSync, readdirSync, renameSync, rmSync, utimesSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { it } from 'node:test';
import type { LogEpoch } from '../lib/log.ts';
import { SqliteLog } from '../lib/sqlite.ts';
import { run } from './helpers/command.ts';
import { entry, folderFor, openLog, readAll, seqsOf, sqlite } from './helpers/sqlite.ts';

if (sqlite !== undefined) {
  it('names the option of the command that cannot be used with a file', async (t) => {
    const path = join(folderFor(t), 'log.db');
    for (const option of ['history', 'history-bytes', 'max-topics']) {
      const { code, stderr } = await run('serve', ['--log', `sqlite:${path}`, `--${option}`, '0']);
      assert.equal(code, 2);
      assert.match(stderr, new RegExp(`^sluice serve: --${option} must be .* got "0"; `));
    }
  });

  it('closes the file where the port is in use', async (t) => {
    const path = join(folderFor(t), 'log.db');
    const other = createServer().listen(0, '127.0.0.1');
    t.after(() => other.close());
    await new Promise((resolve) => other.once('listening', resolve));
    const { port } = other.address() as AddressInfo;
    const { code, stderr } = await run('serve', ['--log', `sqlite:${path}`, '--port', String(port)]);
    assert.equal(code, 1);
    assert.match(stderr, /is in use on 127\.0\.0\.1/);
    // A machine that stops now has lost nothing of it.
    const [epoch] = openLog(t, path, { bootId: () => 'another' }).epochs;
    assert.deepEqual(epoch, { epoch: epoch!.epoch, base: 0 });
  });

  for (const [old, young] of [
    [0, 3],
    [3, 0],
    [600, 2],
    [2, 600],
    [600, 600],
  ] as const) {
    it(`counts ${young} events beside ${old} that are too old and still in the file`, (t) => {
      const path = join(folderFor(t), 'log.db');
      const first = new SqliteLog(path);
      const now = Date.now();
      const at = (i: number): number => (i < old ? now - 100_000 : now);
      first.append(
        Array.from({ length: old + young }, (_, i) => entry(i + 1, 'a', { at: at(i), size: 10 + i })),
      );
      first.close();
      const log = openLog(t, path, { history: { maxAge: 50_000 } });
      const [record] = log.find(['a']);
      const bytes = Array.from({ length: young }, (_, i) => 10 + old + i).reduce(
        (sum, size) => sum + size,
        0,
      );
      assert.deepEqual(record, {
        topic: 'a',
        last: old + young,
        dropped: old,
        ended: false,
        events: young,
        bytes,
      });
      assert.deepEqual(log.list(), [record]);
    });
  }

  it('acknowledges nothing while its file is removed or replaced, and goes on once it is back', (t) => {
    const folder = folderFor(t);
    const path = join(folder, 'log.db');
    const log = openLog(t, path);
    log.append([entry(1, 'a')]);
    const unavailable = {
      code: 'ERR_SSE_LOG_UNAVAILABLE',
      message: /log\.db or its lock was removed or replaced while it was open/,
    };
    renameSync(path, join(folder, 'away.db'));
    assert.throws(() => log.append([entry(2, 'a')]), unavailable);
    assert.throws(() => log.append([]), unavailable);
    assert.throws(() => log.change('a', 'end'), unavailable);
    assert.deepEqual(seqsOf({ entries: readAll(log, ['a']) }), [1]);
    copyFileSync(join(folder, 'away.db'), path);
    assert.throws(() => log.append([]), unavailable);
    renameSync(join(folder, 'away.db'), path);
    log.append([]);
    log.append([entry(3, 'a')]);
    log.close();
    assert.deepEqual(seqsOf({ entries: readAll(openLog(t, path), ['a']) }), [1, 3]);
  });

  it('is never written by two, also where the lock was removed', (t) => {
    const path = join(folderFor(t), 'log.db');
    const first = openLog(t, path);
    first.append([entry(1, 'a')]);
    rmSync(`${path}-lock`);
    const second = openLog(t, path);
    assert.throws(() => first.append([entry(2, 'a')]), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
    second.append([entry(2, 'a')]);
    assert.throws(() => first.append([entry(3, 'a')]), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
    assert.deepEqual(seqsOf({ entries: readAll(second, ['a']) }), [1, 2]);
  });

  it('begins a new epoch where all its files were overwritten by those of an older copy', (t) => {
    const folder = folderFor(t);
    const path = join(folder, 'log.db');
    const copies = join(folder, 'copies');
    mkdirSync(copies);
    const write = (seq: number): readonly LogEpoch[] => {
      const log = new SqliteLog(path);
      log.append([entry(seq, 'a')]);
      log.close();
      return log.epochs;
    };
    const [{ epoch }] = write(1) as [LogEpoch];
    const names = readdirSync(folder).filter((name) => name.startsWith('log.db'));
    for (const name of names) copyFileSync(join(folder, name), join(copies, name));
    assert.deepEqual(write(2), [{ epoch, base: 0 }]);
    for (const name of names) {
      copyFileSync(join(copies, name), join(folder, name));
      // It took the operator a while.
      const later = Date.now() / 1000 + 10;
      utimesSync(join(folder, name), later, later);
    }
    const log = openLog(t, path);
    assert.equal(log.epochs.length, 2);
    assert.deepEqual(log.epochs[0], { epoch, base: 0, end: 1 });
  });

  it('goes on in its epoch where its files were only given to another user, or opened by a shell', (t) => {
    const path = join(folderFor(t), 'log.db');
    const first = new SqliteLog(path);
    first.append([entry(1, 'a')]);
    first.close();
    for (const suffix of ['', '-lock', '-mark']) chmodSync(path + suffix, 0o600);
    const shell = new sqlite!.DatabaseSync(path);
    shell.exec('VACUUM');
    shell.close();
    assert.deepEqual(openLog(t, path).epochs, first.epochs);
  });
}
