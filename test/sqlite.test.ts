// A log in SQLite, on the Node versions that have node:sqlite; on the others, how it is refused. What needs a
// second process, or a crash, is in sqlite.crash.test.ts.

import assert from 'node:assert/strict';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, it, type TestContext } from 'node:test';
import fc from 'fast-check';
import { Hub } from '../lib/hub.ts';
import type { LogEntry, TopicChange, TopicRecord } from '../lib/log.ts';
import { SqliteLog } from '../lib/sqlite.ts';
import { type FileState, type Found, SqliteFile, sqliteOf, whyLost } from '../lib/sqlite-file.ts';
import { often } from './helpers/long.ts';
import { digestOf, entry, folderFor, openLog, readAll, seqsOf, sqlite } from './helpers/sqlite.ts';

const ALL = { newestOnly: false };
const NEWEST = { newestOnly: true };

describe('a Node without node:sqlite', () => {
  it('is refused with its version and the one that is needed', () => {
    for (const node of [
      { version: 'v20.19.0' },
      { version: 'v22.12.0', getBuiltinModule: () => undefined },
    ]) {
      const message = `a log in SQLite needs Node 22.13 or later, which has node:sqlite; this is Node ${node.version}`;
      assert.throws(() => sqliteOf(node), { code: 'ERR_SSE_SQLITE_MISSING', message });
    }
  });
});

if (sqlite === undefined) {
  it('is refused before a file is made', (t) => {
    const folder = folderFor(t);
    assert.throws(() => new SqliteLog(join(folder, 'log.db')), { code: 'ERR_SSE_SQLITE_MISSING' });
    assert.deepEqual(readdirSync(folder), []);
  });
} else {
  const found = sqlite;
  describe('reading', reading);
  describe('what a log knows of a topic', records);
  describe('appending', appending);
  describe('a log that is opened again', reopening);
  describe('a file that is no log for this server', () => refusing(found));
  describe('what a log keeps', retention);
  it('is as a plain list of events would be', sameAsModel);
}

describe('the rule for a new epoch', () => {
  const file: FileState = { clean: 0, durable: 0, boot: 'a', inode: '1', birth: '10', epoch: 7, head: 5 };
  const found: Found = { boot: 'a', inode: '1', birth: '10', mark: { epoch: 7, head: 5 }, marked: 9000 };
  const cases: [string, Partial<FileState>, Partial<Found>, RegExp | undefined][] = [
    ['was closed', { clean: 1 }, {}, undefined],
    ['was closed, and the machine restarted', { clean: 1 }, { boot: 'b' }, undefined],
    ['was closed, and its mark is missing', { clean: 1 }, { mark: undefined }, undefined],
    ['was closed, and is a copy', { clean: 1 }, { inode: '2' }, /another inode/],
    ['was closed, and is a copy with the same inode', { clean: 1 }, { birth: '11' }, /made at another time/],
    ['was closed, on a file system without times of birth', { clean: 1, birth: '' }, {}, undefined],
    ['was closed, and moved to a file system without times of birth', { clean: 1 }, { birth: '' }, undefined],
    [
      'was closed, and is older than its mark',
      { clean: 1 },
      { mark: { epoch: 7, head: 6 } },
      /ends at 5, and had 6/,
    ],
    ['was closed', { clean: 1 }, { mark: { epoch: 7, head: 5, closed: 6000 } }, undefined],
    [
      'was closed, and overwritten by an older one with its mark',
      { clean: 1 },
      { mark: { epoch: 7, head: 5, closed: 5000 } },
      /written over/,
    ],
    [
      'was closed, and overwritten, where times are kept',
      { clean: 1 },
      { mark: { epoch: 7, head: 5, closed: 13_000 } },
      /written over/,
    ],
    ['was closed, and is of another epoch', { clean: 1 }, { mark: { epoch: 8, head: 5 } }, /another epoch/],
    ['was left by a process that was killed', {}, {}, undefined],
    ['was left by a process that was killed before its mark', { head: 6 }, {}, undefined],
    ['was left, and its mark is missing', {}, { mark: undefined }, /mark is missing/],
    ['was left, and lost its newest events', { head: 4 }, {}, /ends at 4, and had 5/],
    ['was left by a machine that stopped', {}, { boot: 'b' }, /machine stopped/],
    ['was left by a machine that stopped, durable', { durable: 1 }, { boot: 'b' }, undefined],
    [
      'was left by a machine that stopped, durable, and is older',
      { durable: 1, head: 4 },
      { boot: 'b' },
      /had 5/,
    ],
    ['was left in the same boot, by its time', { boot: 'time:100000' }, { boot: 'time:104000' }, undefined],
    [
      'was left in another boot, by its time',
      { boot: 'time:100000' },
      { boot: 'time:106000' },
      /machine stopped/,
    ],
    ['was left in a boot of another kind', { boot: 'time:100000' }, { boot: 'b' }, /machine stopped/],
  ];
  for (const [what, was, is, why] of cases) {
    it(`${why === undefined ? 'keeps' : 'ends'} the epoch of a file that ${what}`, () => {
      const answer = whyLost({ ...file, ...was }, { ...found, ...is });
      if (why === undefined) assert.equal(answer, undefined);
      else assert.match(answer!, why);
    });
  }
});

function reading(): void {
  it('merges the events of several topics by seq, also where seqs are missing', (t) => {
    const log = opened(t);
    log.append([entry(1, 'a'), entry(2, 'b'), entry(5, 'a', { key: 'k' })]);
    log.append([entry(9, 'c'), entry(12, 'b')]);
    const page = log.read(['b', 'a', 'a'], 0, 1000, ALL);
    assert.deepEqual(page.entries, [
      entry(1, 'a'),
      entry(2, 'b'),
      entry(5, 'a', { key: 'k' }),
      entry(12, 'b'),
    ]);
    assert.deepEqual([page.until, page.dropped], [12, []]);
    assert.deepEqual(seqsOf(log.read(['a', 'b'], 2, 1000, ALL)), [5, 12]);
    assert.deepEqual(seqsOf(log.read(['c'], 0, 1000, ALL)), [9]);
    assert.deepEqual(log.read(['none'], 3, 1000, ALL), { entries: [], until: 12, dropped: [] });
    assert.equal(log.read(['a'], 40, 1000, ALL).until, 40);
  });

  it('returns a page of maxBytes, and one entry where that is larger', (t) => {
    const log = opened(t);
    log.append([1, 2, 3, 4].map((seq) => entry(seq, seq % 2 === 0 ? 'even' : 'odd', { size: 100 })));
    for (const topics of [['odd'], ['even', 'odd']]) {
      const page = log.read(topics, 0, 200, ALL);
      assert.equal(page.entries.length, 2);
      assert.equal(page.until, topics.length === 1 ? log.head : 2);
      const small = log.read(topics, 0, 1, ALL);
      assert.deepEqual([seqsOf(small), small.until], [[1], 1]);
      assert.equal(readAll(log, topics, 0, 250).length, topics.length * 2);
    }
  });

  it('reads many topics with more events than it looks up at once', (t) => {
    const log = opened(t);
    const topics = Array.from({ length: 30 }, (_, i) => `t${i}`);
    log.append(Array.from({ length: 2000 }, (_, i) => entry(i + 1, topics[(i * 7) % 30]!)));
    const entries = readAll(log, topics, 0, 5000);
    assert.deepEqual(
      entries.map(({ seq }) => seq),
      Array.from({ length: 2000 }, (_, i) => i + 1),
    );
    const two = readAll(log, ['t0', 't29'], 0, 1e6);
    assert.deepEqual(
      two,
      entries.filter(({ topic }) => topic === 't0' || topic === 't29'),
    );
  });

  it('leaves out what a newer event of the key replaces, on this page or a later one', (t) => {
    const log = opened(t);
    const keys = [undefined, undefined, 'a', 'b', undefined, 'a', '', 'a', undefined, ''];
    log.append(keys.map((key, i) => entry(i + 1, 't', key === undefined ? {} : { key })));
    const expected = [1, 2, 4, 5, 8, 9, 10];
    for (let after = 0; after <= 10; after++) {
      const left = expected.filter((seq) => seq > after);
      assert.deepEqual(seqsOf(log.read(['t'], after, 1000, NEWEST)), left);
      assert.deepEqual(seqsOf(log.read(['t'], after, 1, NEWEST)), left.slice(0, 1));
    }
    assert.equal(log.read(['t'], 0, 1000, ALL).entries.length, 10);
    log.append([entry(11, 'u', { key: 'b' })]);
    assert.deepEqual(seqsOf(log.read(['t', 'u'], 3, 1000, NEWEST)), [4, 5, 8, 9, 10, 11]);
  });

  it('tells keys apart that SQLite or UTF-8 would take for one', (t) => {
    const log = opened(t);
    const keys = ['a\0b', 'a\0c', 'a', '\ud800', '\udfff', '\ufffd', 'null', ''];
    log.append(keys.map((key, i) => entry(i + 1, 't', { key })));
    const { entries } = log.read(['t'], 0, 1000, NEWEST);
    assert.deepEqual(
      entries.map(({ key }) => key),
      keys,
    );
  });

  it('finds the place before the newest events of topics', (t) => {
    const log = opened(t);
    assert.equal(log.beforeNewest(['a'], 1), 0);
    log.append([2, 4, 6, 8, 10].map((seq) => entry(seq, seq % 4 === 0 ? 'a' : 'b')));
    log.append([entry(11, 'c')]);
    const both = [0, 1, 2, 3, 4, 5, 6, Infinity].map((count) => log.beforeNewest(['a', 'b'], count));
    assert.deepEqual(both, [11, 9, 7, 5, 3, 1, 1, 1]);
    assert.deepEqual([log.beforeNewest(['a'], 1), log.beforeNewest(['a'], 9)], [7, 3]);
    assert.equal(log.beforeNewest(['none'], 5), 11);
    const more = Array.from({ length: 3000 }, (_, i) => entry(20 + i, 'abc'[i % 3]!));
    log.append(more);
    for (const count of [1, 999, 1500, 2002]) {
      const seen = readAll(log, ['a', 'b'], log.beforeNewest(['a', 'b'], count), 1e6);
      assert.equal(seen.length, count);
    }
  });

  it('keeps no snapshot open after a page that was left early', (t) => {
    const path = join(folderFor(t), 'log.db');
    const log = openLog(t, path);
    log.append(Array.from({ length: 100 }, (_, i) => entry(i + 1, 'a')));
    log.read(['a'], 0, 10, ALL);
    for (let seq = 101; seq < 3000; seq++) log.append([entry(seq, 'a', { size: 4000 })]);
    // A reader that stays open lets the WAL grow for ever: 2,900 events of a page each, and what belongs to them.
    const wal = statSync(`${path}-wal`).size;
    assert.ok(wal < 6 * 1024 * 1024, `${wal} bytes`);
  });
}

function records(): void {
  const record = (topic: string, more: Partial<TopicRecord>): TopicRecord => {
    return { topic, last: 0, dropped: 0, ended: false, events: 0, bytes: 0, ...more };
  };

  it('has its newest seq, what it lost, whether it has ended, and the sizes of what is held', (t) => {
    const log = opened(t, { history: { maxEvents: 2 } });
    log.append([entry(1, 'b'), entry(2, 'a', { size: 50 })]);
    log.append([3, 4, 5].map((seq) => entry(seq, 'b', { size: 10 })));
    const [a, b] = [
      record('a', { last: 2, events: 1, bytes: 50 }),
      record('b', { last: 5, dropped: 3, events: 2, bytes: 20 }),
    ];
    assert.deepEqual(log.find(['b', 'none', 'a', 'b']), [b, a]);
    assert.deepEqual(log.list({}), [a, b]);
    assert.deepEqual(log.list({ limit: 1 }), [a]);
    assert.deepEqual(log.list({ after: 'a' }), [b]);
    assert.deepEqual(log.list({ after: 'aa', limit: 5 }), [b]);
    assert.deepEqual(log.list({ after: 'b' }), []);
  });

  it('ends, reopens and deletes a topic, and says whether there was something to change', (t) => {
    const log = opened(t);
    const changes = (...all: TopicChange[]) => all.map((change) => log.change('a', change));
    assert.deepEqual(changes('reopen', 'delete'), [false, false]);
    log.append([entry(1, 'a'), entry(2, 'a', { key: 'k' })]);
    assert.deepEqual(changes('reopen', 'end', 'end'), [false, true, false]);
    assert.deepEqual(log.find(['a']), [record('a', { last: 2, ended: true, events: 2, bytes: 16 })]);
    assert.deepEqual(changes('reopen', 'reopen', 'end', 'delete', 'delete'), [
      true,
      false,
      true,
      true,
      false,
    ]);
    assert.deepEqual(log.find(['a']), [record('a', { last: 2, dropped: 2, deleted: true })]);
    assert.deepEqual([changes('reopen'), log.list({}), log.head], [[false], [], 2]);
    assert.deepEqual(changes('end', 'reopen', 'delete'), [true, true, true]);
    assert.deepEqual(log.read(['a'], 1, 1000, ALL), {
      entries: [],
      until: 2,
      dropped: [{ topic: 'a', seq: 2 }],
    });
    log.append([entry(3, 'a', { key: 'k' })]);
    assert.deepEqual(log.list({}), [record('a', { last: 3, dropped: 2, events: 1, bytes: 8 })]);
    assert.deepEqual(seqsOf(log.read(['a'], 0, 1000, NEWEST)), [3]);
  });

  it('ends a topic that it does not know, and remembers that', (t) => {
    const path = join(folderFor(t), 'log.db');
    const log = openLog(t, path);
    assert.deepEqual([log.change('a', 'end'), log.change('a', 'end')], [true, false]);
    log.close();
    const again = openLog(t, path);
    assert.deepEqual([again.find(['a']), again.head], [[record('a', { ended: true })], 0]);
    assert.deepEqual([again.change('a', 'reopen'), again.list({})], [true, [record('a', {})]]);
  });

  it('removes a large topic step by step, of which nothing is read meanwhile', (t) => {
    const path = join(folderFor(t), 'log.db');
    const log = openLog(t, path);
    log.append(Array.from({ length: 5000 }, (_, i) => entry(i + 1, 'a', { key: `k${i % 50}` })));
    assert.equal(log.change('a', 'delete'), true);
    assert.ok(count(path, 'events') >= 3900, 'all was removed at once');
    log.append([entry(5001, 'a', { key: 'k1' })]);
    for (const options of [ALL, NEWEST]) assert.deepEqual(seqsOf(log.read(['a'], 0, 1000, options)), [5001]);
    assert.deepEqual(log.find(['a']), [record('a', { last: 5001, dropped: 5000, events: 1, bytes: 8 })]);
    assert.equal(log.beforeNewest(['a'], Infinity), 5000);
    for (let seq = 5002; count(path, 'garbage') > 0; seq++) {
      assert.ok(seq < 5100, 'it is never removed');
      log.append([entry(seq, 'b')]);
    }
    const rest = log.list({}).reduce((sum, { events }) => sum + events, 0);
    assert.deepEqual([count(path, 'events'), count(path, 'newest')], [rest, 1]);
  });
}

function appending(): void {
  it('keeps all entries of a call, or none', (t) => {
    const log = opened(t);
    log.append([entry(1, 'a')]);
    const wrong = { ...entry(3, 'c'), at: NaN };
    assert.throws(() => log.append([entry(2, 'b'), wrong]), { code: 'ERR_SSE_LOG_UNAVAILABLE', status: 503 });
    assert.deepEqual([log.head, log.find(['b', 'c']), readAll(log, ['a', 'b']).length], [1, [], 1]);
    log.append([entry(4, 'b')]);
    assert.deepEqual(readAll(log, ['a', 'b']), [entry(1, 'a'), entry(4, 'b')]);
  });

  it('keeps the newest maxKeys idempotency keys, with the events that they are for', (t) => {
    const path = join(folderFor(t), 'log.db');
    const log = openLog(t, path, { maxKeys: 3 });
    const keys = ['a', '\ud800', 'a\0', '', '__proto__'];
    const recordOf = (seq: number) => ({ key: keys[seq - 1]!, digest: `d\0${seq}`, first: seq, count: 2 });
    for (let seq = 1; seq <= 5; seq++) log.append([entry(seq, 'a')], [recordOf(seq)]);
    const recalled = (from: SqliteLog) => keys.map((key) => from.recall(key));
    const newest = [undefined, undefined, recordOf(3), recordOf(4), recordOf(5)];
    assert.deepEqual(recalled(log), newest);
    assert.throws(() => log.append([{ ...entry(6, 'a'), at: NaN }], [recordOf(1)]), { status: 503 });
    log.close();
    const again = openLog(t, path, { maxKeys: 2 });
    assert.deepEqual(recalled(again), newest);
    again.append([entry(7, 'a')], [recordOf(5), { ...recordOf(1), first: 7 }]);
    assert.deepEqual(recalled(again).filter((one) => one !== undefined).length, 2);
    assert.deepEqual(again.recall('a'), { ...recordOf(1), first: 7 });
  });

  it('refuses a seq that is not above the one before it', (t) => {
    const log = opened(t);
    log.append([entry(5, 'a')]);
    for (const seqs of [[5], [4], [6, 6], [7, 6], [0.5], [NaN]])
      assert.throws(() => log.append(seqs.map((seq) => entry(seq, 'a'))), RangeError);
    assert.equal(log.head, 5);
  });

  it('refuses what does not fit into a full file, and goes on once there is room', (t) => {
    const log = opened(t, { maxPages: 100 });
    let seq = 0;
    const fill = () => {
      for (;;) log.append([entry(++seq, 'big', { size: 20_000 })]);
    };
    log.append([entry(++seq, 'small')]);
    assert.throws(fill, { code: 'ERR_SSE_LOG_UNAVAILABLE', message: /log\.db cannot be written: .*full/ });
    assert.equal(log.head, seq - 1);
    assert.equal(readAll(log, ['big', 'small']).length, seq - 1);
    assert.throws(() => log.append([]), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
    log.change('big', 'delete');
    log.append([]);
    log.append([entry(++seq, 'big', { size: 20_000 })]);
    assert.equal(readAll(log, ['big', 'small']).length, 2);
  });

  it('probes with as much as what has failed', (t) => {
    const log = opened(t, { maxPages: 100 });
    const large = entry(1, 'a', { size: 500_000 });
    assert.throws(() => log.append([large]), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
    assert.throws(() => log.append([]), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
    assert.deepEqual([log.head, log.list({})], [0, []]);
  });

  it('leaves nothing of a probe', (t) => {
    const path = join(folderFor(t), 'log.db');
    const log = openLog(t, path);
    for (let i = 0; i < 3; i++) log.append([]);
    assert.deepEqual([count(path, 'probe'), log.head], [0, 0]);
  });

  it('fails while another program holds the file for writing, and goes on afterwards', (t) => {
    const path = join(folderFor(t), 'log.db');
    const log = openLog(t, path);
    const other = new sqlite!.DatabaseSync(path);
    other.exec('BEGIN IMMEDIATE');
    assert.throws(() => log.append([entry(1, 'a')]), { code: 'ERR_SSE_LOG_UNAVAILABLE', message: /locked/ });
    assert.throws(() => log.append([]), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
    other.exec('ROLLBACK');
    other.close();
    log.append([]);
    log.append([entry(2, 'a')]);
    assert.deepEqual(seqsOf(log.read(['a'], 0, 1000, ALL)), [2]);
  });

  it('refuses all calls after close, which may be called again', (t) => {
    const log = opened(t);
    log.close();
    log.close();
    for (const call of [
      () => log.append([]),
      () => log.append([entry(1, 'a')]),
      () => log.change('a', 'end'),
      () => log.read(['a'], 0, 1, ALL),
      () => log.list({}),
    ])
      assert.throws(call, { code: 'ERR_SSE_LOG_UNAVAILABLE', message: /is closed/ });
  });
}

function reopening(): void {
  it('keeps its epoch, its head, its events and its topics', (t) => {
    const path = join(folderFor(t), 'log.db');
    const log = openLog(t, path);
    log.append([entry(1, 'a'), entry(4, 'b', { key: 'k' }), entry(5, 'c')]);
    log.change('b', 'end');
    log.change('c', 'delete');
    const before = [log.epochs, log.head, log.list({}), log.find(['c']), readAll(log, ['a', 'b', 'c'])];
    assert.deepEqual([log.epochs.length, log.epochs[0]!.base, log.epochs[0]!.end], [1, 0, undefined]);
    log.close();
    const again = openLog(t, path);
    const after = [
      again.epochs,
      again.head,
      again.list({}),
      again.find(['c']),
      readAll(again, ['a', 'b', 'c']),
    ];
    assert.deepEqual(after, before);
  });

  it('leaves nothing in its WAL, also where somebody reads the file when it is closed', (t) => {
    const path = join(folderFor(t), 'log.db');
    const log = openLog(t, path);
    log.append([entry(1, 'a')]);
    const reader = new sqlite!.DatabaseSync(path, { readOnly: true });
    reader.prepare('SELECT count(*) FROM events').get();
    log.close();
    assert.equal(statSync(`${path}-wal`).size, 0);
    reader.close();
  });

  it('keeps its epoch where it was closed before the machine restarted', (t) => {
    const path = join(folderFor(t), 'log.db');
    const log = openLog(t, path, { bootId: () => 'one' });
    log.append([entry(1, 'a')]);
    log.close();
    assert.deepEqual(openLog(t, path, { bootId: () => 'two' }).epochs, log.epochs);
  });

  it('serves a client of the hub before from where it was', async (t) => {
    const path = join(folderFor(t), 'log.db');
    const before = new Hub({ log: new SqliteLog(path) });
    const ids = await before.appendAll('news', [{ data: 'one' }, { data: 'two' }, { data: 'three' }]);
    await before.close();
    const log = new SqliteLog(path);
    const after = new Hub({ log });
    const sink = new PassThrough();
    after.subscribe(['news'], sink, { lastEventId: ids[0]! });
    let text = '';
    for await (const part of sink.setEncoding('utf8')) {
      text += part;
      if (text.includes('data: three')) break;
    }
    assert.doesNotMatch(text, /sluice:gap|data: one/);
    assert.match(text, new RegExp(`id: ?${ids[1]}\\n[^]*data: two[^]*id: ?${ids[2]}\\n`));
    await after.close();
    assert.throws(() => log.append([]), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
  });

  it('leaves one file and two small ones when it is closed', (t) => {
    const folder = folderFor(t);
    const log = openLog(t, join(folder, 'log.db'));
    log.append([entry(1, 'a')]);
    log.close();
    assert.deepEqual(readdirSync(folder).sort(), ['log.db', 'log.db-lock', 'log.db-mark']);
  });

  it('begins a new epoch where it is a copy, at a place of its own', (t) => {
    const folder = folderFor(t);
    const [path, copy] = [join(folder, 'log.db'), join(folder, 'copy.db')];
    const log = openLog(t, path);
    log.append([entry(1, 'a'), entry(2, 'a')]);
    log.close();
    writeFileSync(copy, readFileSync(path));
    const [{ epoch } = { epoch: 0 }] = log.epochs;
    const other = openLog(t, copy);
    assert.deepEqual(other.epochs[0], { epoch, base: 0, end: 2 });
    assert.deepEqual([other.epochs.length, other.epochs[1]!.base, other.head], [2, 3, 3]);
    assert.ok(other.epochs[1]!.epoch > epoch);
    other.append([entry(4, 'a')]);
    other.close();
    assert.deepEqual([openLog(t, copy).epochs, openLog(t, path).epochs], [other.epochs, log.epochs]);
  });

  it('begins a new epoch where an older file was put into its place', (t) => {
    const path = join(folderFor(t), 'log.db');
    const log = openLog(t, path);
    log.append([entry(1, 'a')]);
    log.close();
    const backup = readFileSync(path);
    const later = openLog(t, path);
    later.append([entry(2, 'a')]);
    later.close();
    writeFileSync(path, backup);
    const restored = openLog(t, path);
    assert.deepEqual(restored.epochs[0], { ...log.epochs[0], end: 1 });
    assert.deepEqual([restored.epochs.length, restored.head], [2, 2]);
  });

  for (const part of [1, 0.5]) {
    it(`makes the file again where a process was killed that had written ${part === 1 ? 'all' : 'half'} of it`, (t) => {
      const path = closedLog(t);
      truncateSync(path, Math.floor((statSync(path).size * part) / 4096) * 4096);
      const other = join(folderFor(t), 'other.db');
      const unfinished = new sqlite!.DatabaseSync(other);
      unfinished.exec(
        'PRAGMA cache_size = 1; BEGIN; CREATE TABLE a (b); INSERT INTO a VALUES (zeroblob(1000000))',
      );
      // The journal of a transaction that began with an empty file.
      copyFileSync(`${other}-journal`, `${path}-journal`);
      unfinished.close();
      const log = openLog(t, path);
      assert.deepEqual([log.list({}), log.head, log.epochs.length], [[], 0, 1]);
      log.append([entry(1, 'a')]);
    });
  }

  it('synchronises each commit with the disk where it must survive a loss of power', (t) => {
    for (const [durability, mode] of [
      ['process', 1],
      ['power', 2],
    ] as const) {
      const file = new SqliteFile(join(folderFor(t), 'log.db'), { durability });
      // NORMAL and FULL.
      assert.deepEqual(
        { ...(file.database.prepare('PRAGMA synchronous').get() as object) },
        { synchronous: mode },
      );
      file.close();
    }
  });

  it('begins with an epoch above that of a file that was deleted', (t) => {
    const path = join(folderFor(t), 'log.db');
    t.mock.method(Date, 'now', () => 2_000_000_000_000);
    const log = openLog(t, path);
    log.close();
    t.mock.method(Date, 'now', () => 1_000_000_000_000);
    const folder = digestOf(join(path, '..'));
    assert.ok('log.db-mark' in folder);
    truncateSync(path, 0);
    const next = openLog(t, path);
    assert.equal(next.epochs[0]!.epoch, log.epochs[0]!.epoch + 1);
    assert.equal(next.head, 0);
  });
}

function refusing({ DatabaseSync }: typeof import('node:sqlite')): void {
  const refused = (path: string, code: string, message?: RegExp) => {
    const folder = join(path, '..');
    const before = digestOf(folder);
    assert.throws(() => new SqliteLog(path), { code: `ERR_SSE_SQLITE_${code}`, ...(message && { message }) });
    assert.deepEqual(digestOf(folder), before);
  };

  it('is refused and left as it is where it is no database', (t) => {
    for (const text of ['x', 'a,b,c\n'.repeat(1000), `SQLite format 3\0${'-'.repeat(5000)}`]) {
      const path = join(folderFor(t), 'log.db');
      writeFileSync(path, text);
      refused(path, 'FOREIGN', /log\.db/);
    }
  });

  it('is refused and left as it is where it belongs to another application', (t) => {
    for (const id of [0, 1234]) {
      for (const mode of ['delete', 'wal']) {
        const path = join(folderFor(t), 'log.db');
        const other = new DatabaseSync(path);
        other.exec(`PRAGMA journal_mode = ${mode}; PRAGMA application_id = ${id}; CREATE TABLE a (b)`);
        other.close();
        refused(path, 'FOREIGN', /log\.db belongs to another application/);
      }
    }
  });

  it('is refused and left as it is where it is of a later version', (t) => {
    const path = closedLog(t);
    alter(path, (bytes) => bytes.writeUInt32BE(2, 60));
    refused(path, 'NEWER', /log\.db has format 2, and this version knows 1: update sluice/);
  });

  it('is refused and left as it is where it is damaged', (t) => {
    const cut = closedLog(t);
    truncateSync(cut, readFileSync(cut).length / 2);
    refused(cut, 'DAMAGED', /log\.db is damaged: it has \d+ bytes of \d+/);
    const zeroed = closedLog(t);
    alter(zeroed, (bytes) => bytes.fill(0, 100, 4096));
    refused(zeroed, 'DAMAGED', /log\.db/);
    const other = closedLog(t);
    new DatabaseSync(other).exec('PRAGMA journal_mode = DELETE; CREATE TABLE more (a)');
    refused(other, 'DAMAGED', /log\.db is damaged: it has other tables than a log/);
    const empty = closedLog(t);
    new DatabaseSync(empty).exec('PRAGMA journal_mode = DELETE; DELETE FROM state');
    refused(empty, 'DAMAGED', /log\.db is damaged: it has no state/);
  });

  it('is refused, or named by the call that meets the damage, wherever its bytes are wrong', (t) => {
    const path = closedLog(t);
    const whole = readFileSync(path);
    const outcomes = { opened: 0, refused: 0, met: 0 };
    for (let seed = 1; seed <= 150; seed++) {
      const folder = folderFor(t);
      const damaged = join(folder, 'log.db');
      const bytes = Buffer.from(whole);
      let chance = seed;
      for (let i = 0; i < 40; i++) {
        chance = (chance * 48271) % 2147483647;
        bytes[100 + (chance % (bytes.length - 100))] = chance % 256;
      }
      writeFileSync(damaged, bytes);
      try {
        const log = new SqliteLog(damaged);
        outcomes.opened++;
        try {
          readAll(log, ['a', 'b']);
          log.read(['a', 'b'], 0, 1000, NEWEST);
          log.list({});
          log.beforeNewest(['a', 'b'], 3);
        } catch (error) {
          outcomes.met++;
          assert.deepEqual(
            [codeOf(error), messageOf(error).includes(damaged)],
            ['ERR_SSE_SQLITE_DAMAGED', true],
          );
        } finally {
          log.close();
        }
      } catch (error) {
        outcomes.refused++;
        assert.match(String(codeOf(error)), /^ERR_SSE_SQLITE_/, `seed ${seed}: ${error}`);
        if (codeOf(error) === 'ERR_SSE_SQLITE_DAMAGED')
          assert.ok(readFileSync(damaged).equals(bytes), `seed ${seed}`);
      }
    }
    for (const [outcome, times] of Object.entries(outcomes)) assert.ok(times > 3, `${times} ${outcome}`);
  });

  it('is refused while another log of this process has it open, also by another path', (t) => {
    const path = join(folderFor(t), 'log.db');
    const link = join(folderFor(t), 'link.db');
    symlinkSync(path, link);
    const log = openLog(t, link);
    log.append([entry(1, 'a')]);
    for (const other of [path, link, join(path, '..', '.', 'log.db')])
      assert.throws(() => new SqliteLog(other), {
        code: 'ERR_SSE_SQLITE_IN_USE',
        message: /log\.db is in use/,
      });
    log.append([entry(2, 'a')]);
    log.close();
    assert.deepEqual(readAll(openLog(t, path), ['a']).length, 2);
  });

  it('is refused where a file beside it has the name of its lock or of its mark', (t) => {
    for (const suffix of ['-lock', '-mark']) {
      const path = closedLog(t);
      writeFileSync(path + suffix, 'something else, and of no small size\n'.repeat(20));
      refused(path, 'FOREIGN', new RegExp(`log\\.db${suffix}`));
    }
  });

  it('is refused where it is a folder, or in a folder that does not exist', (t) => {
    const folder = folderFor(t);
    mkdirSync(join(folder, 'sub'));
    refused(join(folder, 'sub'), 'FOREIGN', /sub is not a file/);
    assert.throws(() => new SqliteLog(join(folder, 'none', 'log.db')), {
      code: 'ERR_SSE_SQLITE_FAILED',
      message: /none/,
    });
    assert.deepEqual(readdirSync(folder), ['sub']);
  });

  it('is refused where it, or its folder, cannot be written', (t) => {
    const paths = [closedLog(t), closedLog(t), join(folderFor(t), 'log.db')];
    const [file, folder, empty] = paths as [string, string, string];
    for (const path of paths) chmodSync(join(path, '..'), 0o755);
    for (const name of ['', '-lock', '-mark']) chmodSync(file + name, 0o444);
    for (const path of [folder, empty]) chmodSync(join(path, '..'), 0o555);
    asNobody(() => {
      for (const path of paths) refused(path, 'READ_ONLY', /log\.db/);
    });
    for (const path of paths) chmodSync(join(path, '..'), 0o755);
  });

  it('is refused by name of the option that cannot be used, before a file is made', (t) => {
    const folder = folderFor(t);
    const path = join(folder, 'log.db');
    const wrong = (options: object, message: RegExp) =>
      assert.throws(() => new SqliteLog(path, options), { message });
    wrong({ history: { maxEvents: 0 } }, /`maxEvents` must be a whole number ≥ 1, got 0/);
    wrong({ history: { maxBytes: 0 } }, /`maxBytes`/);
    wrong({ history: { maxAge: -1 } }, /`maxAge`/);
    wrong({ history: 3 }, /`history`/);
    wrong({ maxKeys: 0 }, /`maxKeys`/);
    wrong({ maxTopics: 0 }, /`maxTopics` must be a number ≥ 1, got 0/);
    wrong({ maxFileBytes: NaN }, /`maxFileBytes`/);
    wrong({ durability: 'disk' }, /`durability` must be 'process' or 'power', got "disk"/);
    for (const none of ['', ':memory:', 3 as unknown as string])
      assert.throws(() => new SqliteLog(none), {
        name: 'TypeError',
        message: /`path` must be the path of a file/,
      });
    assert.deepEqual(readdirSync(folder), []);
  });
}

function retention(): void {
  it('keeps exactly maxEvents of a topic after each append, and says what was dropped', (t) => {
    const path = join(folderFor(t), 'log.db');
    const log = openLog(t, path, { history: (topic) => ({ maxEvents: topic === 'long' ? 1000 : 10 }) });
    for (let seq = 1, batch = 1; seq < 3000; batch = (batch % 7) + 1) {
      const events = Array.from({ length: batch }, (_, i) =>
        i % 2 === 0
          ? entry(seq + i, 'long', { key: `${seq + i}` })
          : entry(seq + i, 'short', { key: `${i}` }),
      );
      log.append(events);
      seq += batch;
      const [long, short] = log.find(['long', 'short']);
      assert.ok(long!.events <= 1000 && (short?.events ?? 0) <= 10);
    }
    const [long, short] = log.find(['long', 'short']);
    assert.deepEqual([long!.events, short!.events, count(path, 'events')], [1000, 10, 1010]);
    // `short` has the keys 1, 3 and 5.
    assert.equal(count(path, 'newest'), 1003);
    for (const { topic, dropped } of [long!, short!]) {
      const page = log.read([topic], 0, 1e9, ALL);
      assert.deepEqual(page.dropped, [{ topic, seq: dropped }]);
      assert.ok(page.entries[0]!.seq > dropped);
      assert.deepEqual(log.read([topic], dropped, 1e9, ALL).dropped, []);
    }
  });

  it('keeps to maxEvents also where each append has many small events', (t) => {
    const log = opened(t, { history: { maxEvents: 100 } });
    for (let seq = 1; seq < 2000; seq += 300) {
      log.append(Array.from({ length: 300 }, (_, i) => entry(seq + i, 'a', { size: 1 })));
      assert.equal(log.find(['a'])[0]!.events, 100);
    }
  });

  it('keeps maxBytes of a topic, and the newest event whatever its size', (t) => {
    const log = opened(t, { history: { maxBytes: 1000 } });
    log.append(Array.from({ length: 50 }, (_, i) => entry(i + 1, 'a', { size: 90 })));
    assert.deepEqual(log.find(['a'])[0], {
      topic: 'a',
      last: 50,
      dropped: 39,
      ended: false,
      events: 11,
      bytes: 990,
    });
    log.append([entry(51, 'a', { size: 5000 })]);
    assert.deepEqual(log.find(['a'])[0], {
      topic: 'a',
      last: 51,
      dropped: 50,
      ended: false,
      events: 1,
      bytes: 5000,
    });
  });

  it('keeps up where its limits were lowered, a part at each append', (t) => {
    const path = join(folderFor(t), 'log.db');
    const log = openLog(t, path);
    log.append(Array.from({ length: 5000 }, (_, i) => entry(i + 1, i % 2 === 0 ? 'a' : 'silent')));
    log.close();
    const lower = openLog(t, path, { history: { maxEvents: 10 } });
    const held = () => lower.list({}).map(({ events }) => events);
    assert.deepEqual(held(), [2500, 2500]);
    let appends = 0;
    for (; held().some((events) => events > 10); appends++) {
      const before = count(path, 'events');
      lower.append([entry(5001 + appends, 'a')]);
      const removed = before + 1 - count(path, 'events');
      assert.ok(removed <= 400, `${removed} in one append`);
      assert.ok(appends < 200);
    }
    assert.ok(appends > 5);
    assert.deepEqual(held(), [10, 10]);
  });

  it('reads nothing older than maxAge, also of a topic that is silent', (t) => {
    const path = join(folderFor(t), 'log.db');
    let now = 1000;
    t.mock.method(Date, 'now', () => now);
    const log = openLog(t, path, { history: { maxAge: 100 } });
    log.append(Array.from({ length: 1000 }, (_, i) => entry(3 * i + 1, 'a', { at: 1000 + (i >> 1) })));
    for (const [time, lost] of [
      [1100, 0],
      [1101, 2],
      [1250, 300],
      [1598, 996],
      [1599, 998],
      [1600, 1000],
      [9999, 1000],
    ] as const) {
      now = time;
      const dropped = lost === 0 ? 0 : 3 * lost - 2;
      const page = log.read(['a'], 0, 1e9, ALL);
      assert.deepEqual(
        [page.entries.length, page.entries[0]?.seq],
        [1000 - lost, lost === 1000 ? undefined : 3 * lost + 1],
      );
      assert.deepEqual(page.dropped, lost === 0 ? [] : [{ topic: 'a', seq: dropped }]);
      const [record] = log.find(['a']);
      assert.deepEqual(
        [record!.events, record!.bytes, record!.dropped],
        [1000 - lost, 8 * (1000 - lost), dropped],
      );
      assert.equal(log.beforeNewest(['a'], Infinity), lost === 1000 ? 2998 : 3 * lost);
    }
    // And they are removed from the file, by appends to another topic.
    for (let seq = 3001; count(path, 'events') > seq - 3000; seq++) {
      assert.ok(seq < 3050);
      log.append([entry(seq, 'b', { at: 9999 })]);
    }
    assert.equal(log.find(['a'])[0]!.events, 0);
  });

  it('reads and removes exactly what is older than maxAge, at every moment', (t) => {
    let now = 1000;
    t.mock.method(Date, 'now', () => now);
    const log = opened(t, { history: { maxAge: 100 } });
    const times = Array.from({ length: 300 }, (_, i) => 1000 + Math.floor(i / 3) * 2);
    log.append(times.map((at, i) => entry(i + 1, 'a', { at })));
    const idle = opened(t, { history: { maxAge: 100 } });
    idle.append(times.map((at, i) => entry(i + 1, 'a', { at })));
    for (let seq = 301; now < 1320; seq++) {
      now++;
      log.append([entry(seq, 'b', { at: now })]);
      const left = times.filter((at) => at >= now - 100).length;
      for (const one of [log, idle]) {
        assert.equal(one.read(['a'], 0, 1e9, ALL).entries.length, left);
        assert.equal(one.find(['a'])[0]!.events, left);
      }
    }
  });

  it('counts no topic of an append that has failed', (t) => {
    const log = opened(t, { maxTopics: 2 });
    const wrong = { ...entry(3, 'c'), at: NaN };
    for (let i = 0; i < 3; i++)
      assert.throws(() => log.append([entry(1, 'x'), entry(2, 'y'), wrong]), { status: 503 });
    log.append([entry(4, 'a')]);
    log.append([entry(5, 'b')]);
    assert.deepEqual(
      log.list({}).map(({ topic }) => topic),
      ['a', 'b'],
    );
  });

  it('holds what was appended now, where that alone is larger than maxFileBytes', (t) => {
    const log = opened(t, { maxFileBytes: 200_000 });
    log.append(Array.from({ length: 50 }, (_, i) => entry(i + 1, 'a', { size: 1000 })));
    log.append(Array.from({ length: 500 }, (_, i) => entry(i + 51, 'abc'[i % 3]!, { size: 1000 })));
    const held = readAll(log, ['a', 'b', 'c'], 0, 1e6).map(({ seq }) => seq);
    assert.deepEqual(
      held,
      Array.from({ length: 500 }, (_, i) => i + 51),
    );
  });

  it('forgets the topics that were silent for longest, and gives their readers a gap', (t) => {
    const path = join(folderFor(t), 'log.db');
    const log = openLog(t, path, { maxTopics: 3 });
    log.append([entry(1, 'a'), entry(2, 'b'), entry(3, 'c'), entry(4, 'a')]);
    log.append([entry(5, 'd')]);
    const names = () => log.list({}).map(({ topic }) => topic);
    assert.deepEqual(names(), ['a', 'c', 'd']);
    assert.deepEqual(log.read(['b'], 1, 1000, ALL), {
      entries: [],
      until: 5,
      dropped: [{ topic: 'b', seq: 2 }],
    });
    assert.deepEqual(log.read(['b'], 2, 1000, ALL).dropped, []);
    assert.deepEqual(log.read(['a', 'c', 'd'], 0, 1000, ALL).dropped, []);
    log.append([entry(6, 'b')]);
    assert.deepEqual(names(), ['a', 'b', 'd']);
    // Nothing is known any more of what `b` has lost: all that was forgotten, at most.
    assert.deepEqual(log.find(['b'])[0], {
      topic: 'b',
      last: 6,
      dropped: 2,
      ended: false,
      events: 1,
      bytes: 8,
    });
    log.close();
    const again = openLog(t, path, { maxTopics: 3 });
    assert.deepEqual(again.read(['c'], 0, 1000, ALL).dropped, [{ topic: 'c', seq: 3 }]);
    assert.deepEqual([count(path, 'topics'), count(path, 'events')], [3, 4]);
  });

  it('forgets a topic without events before one that was silent for less long', (t) => {
    const log = opened(t, { maxTopics: 2 });
    log.append([entry(1, 'a'), entry(2, 'b')]);
    log.change('a', 'delete');
    log.append([entry(3, 'c')]);
    assert.deepEqual(
      log.find(['a', 'b', 'c']).map(({ topic, events }) => [topic, events]),
      [
        ['b', 1],
        ['c', 1],
      ],
    );
  });

  it('does not give the events of a forgotten topic to a new one', (t) => {
    const path = join(folderFor(t), 'log.db');
    const log = openLog(t, path, { maxTopics: 1 });
    log.append(Array.from({ length: 3000 }, (_, i) => entry(i + 1, 'old', { key: `k${i}` })));
    log.append([entry(3001, 'new')]);
    assert.ok(count(path, 'events') > 2000, 'all was removed at once');
    assert.deepEqual(log.read(['new'], 3000, 1000, ALL).entries, [entry(3001, 'new')]);
    for (let seq = 3002; count(path, 'garbage') > 0; seq++) log.append([entry(seq, 'new')]);
    assert.deepEqual([count(path, 'events'), count(path, 'newest')], [log.list({})[0]!.events, 0]);
  });

  it('keeps the file within maxFileBytes, by events of the topics that were silent for longest', (t) => {
    const path = join(folderFor(t), 'log.db');
    const log = openLog(t, path, { maxFileBytes: 1_000_000 });
    const first = Array.from({ length: 100 }, (_, i) => entry(i + 1, 'silent', { size: 1000 }));
    log.append(first);
    let seq = 100;
    for (let i = 0; i < 300; i++) {
      log.append(Array.from({ length: 10 }, (_, j) => entry(++seq, `t${j % 3}`, { size: 1000 })));
      assert.equal(
        readAll(log, ['t0', 't1', 't2'], seq - 10, 1e6).length,
        10,
        'what was appended now is held',
      );
    }
    assert.equal(log.find(['silent'])[0]!.events, 0);
    const held = log.list({}).reduce((bytes, topic) => bytes + topic.bytes, 0);
    assert.ok(held > 600_000 && held < 1_000_000, `${held} bytes are held`);
    log.close();
    const size = readFileSync(path).length;
    assert.ok(size < 1_100_000, `${size} bytes`);
  });
}

/** Runs the same calls on a log and on lists in memory. Print of the seed: fast-check's. */
function sameAsModel(t: TestContext): void {
  const names = ['a', 'b', 'c', 'd'];
  const topic = fc.constantFrom(...names);
  const topics = fc.uniqueArray(topic, { minLength: 1 });
  const event = fc.record({
    topic,
    skip: fc.nat({ max: 2 }),
    size: fc.integer({ min: 1, max: 60 }),
    key: fc.option(fc.constantFrom('k', 'l', ''), { nil: undefined }),
  });
  const step = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        do: fc.constant('append' as const),
        events: fc.array(event, { minLength: 1, maxLength: 6 }),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constant('change' as const),
        topic,
        change: fc.constantFrom('end', 'reopen', 'delete'),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('read' as const),
        topics,
        back: fc.nat({ max: 20 }),
        maxBytes: fc.integer({ min: 1, max: 300 }),
        newestOnly: fc.boolean(),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('ask' as const), topics, count: fc.nat({ max: 12 }) }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), time: fc.nat({ max: 40 }) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('reopen' as const) }) },
  );
  const limits = fc.record({
    maxEvents: fc.constantFrom(1, 3, 10, Infinity),
    maxBytes: fc.constantFrom(100, 1000),
    maxAge: fc.constantFrom(30, Infinity),
    maxTopics: fc.constantFrom(2, 3, 100),
  });
  let now = 0;
  t.mock.method(Date, 'now', () => now);
  const folder = folderFor(t);
  let runs = 0;
  const property = fc.property(
    limits,
    fc.array(step, { minLength: 5, maxLength: 30 }),
    ({ maxTopics, ...history }, steps) => {
      now = 1000;
      const path = join(folder, `${runs++}.db`);
      const options = { history, maxTopics };
      const model = new Model(history, maxTopics);
      let log = new SqliteLog(path, options);
      try {
        for (const one of steps) {
          if (one.do === 'append') {
            let seq = model.head;
            const entries = one.events.map(({ topic, skip, size, key }) => {
              seq += 1 + skip;
              return entry(seq, topic, { at: now, size, ...(key !== undefined && { key }) });
            });
            log.append(entries);
            model.append(entries, now);
          } else if (one.do === 'change') {
            const change = one.change as TopicChange;
            assert.equal(log.change(one.topic, change), model.change(one.topic, change));
          } else if (one.do === 'read') {
            const after = Math.max(0, model.head - one.back);
            const page = log.read(one.topics, after, one.maxBytes, { newestOnly: one.newestOnly });
            const { entries, dropped } = model.read(one.topics, after, one.newestOnly, now);
            assert.deepEqual(page.entries, pageOf(entries, one.maxBytes));
            assert.deepEqual(page.dropped, dropped);
            assert.equal(
              page.until,
              page.entries.length < entries.length ? page.entries.at(-1)!.seq : model.head,
            );
          } else if (one.do === 'ask') {
            assert.deepEqual(log.find(one.topics), model.find(one.topics, now));
            assert.deepEqual(
              log.list({ after: one.topics[0], limit: one.count }),
              model.list(one.topics[0]!, one.count, now),
            );
            assert.equal(
              log.beforeNewest(one.topics, one.count),
              model.beforeNewest(one.topics, one.count, now),
            );
          } else if (one.do === 'wait') now += one.time;
          else {
            log.close();
            log = new SqliteLog(path, options);
            assert.deepEqual([log.head, log.epochs.length], [model.head, 1]);
          }
        }
      } finally {
        log.close();
      }
    },
  );
  fc.assert(property, { numRuns: often(60, 3000) });
}

class Model {
  head = 0;
  #floor = 0;
  readonly #limits: { maxEvents: number; maxBytes: number; maxAge: number };
  readonly #maxTopics: number;
  readonly #topics = new Map<
    string,
    { last: number; dropped: number; ended: boolean; deleted: boolean; held: LogEntry[] }
  >();

  constructor(limits: { maxEvents: number; maxBytes: number; maxAge: number }, maxTopics: number) {
    this.#limits = limits;
    this.#maxTopics = maxTopics;
  }

  append(entries: readonly LogEntry[], now: number): void {
    const floor = this.#floor;
    for (const one of entries) {
      const topic = this.#topics.get(one.topic) ?? {
        last: 0,
        dropped: floor,
        ended: false,
        deleted: false,
        held: [],
      };
      this.#topics.set(one.topic, topic);
      topic.held.push(one);
      topic.last = one.seq;
      topic.deleted = false;
    }
    this.head = entries.at(-1)!.seq;
    const { maxEvents, maxBytes } = this.#limits;
    for (const name of new Set(entries.map(({ topic }) => topic))) {
      const topic = this.#topics.get(name)!;
      this.#expire(topic, now);
      while (topic.held.length > 1 && (topic.held.length > maxEvents || bytesOf(topic.held) > maxBytes))
        topic.dropped = topic.held.shift()!.seq;
    }
    while (this.#topics.size > this.#maxTopics) {
      const [silent, { last }] = [...this.#topics].sort(([, a], [, b]) => a.last - b.last)[0]!;
      this.#topics.delete(silent);
      this.#floor = Math.max(this.#floor, last);
    }
  }

  #expire(topic: { dropped: number; held: LogEntry[] }, now: number): void {
    while (topic.held.length > 0 && topic.held[0]!.at < now - this.#limits.maxAge)
      topic.dropped = topic.held.shift()!.seq;
  }

  change(name: string, change: TopicChange): boolean {
    const topic = this.#topics.get(name);
    if (topic === undefined && change === 'end') {
      const floor = this.#floor;
      this.#topics.set(name, { last: floor, dropped: floor, ended: true, deleted: false, held: [] });
      return true;
    }
    if (change === 'end' && topic !== undefined && !topic.ended) topic.deleted = false;
    if (topic === undefined || topic.deleted || (change === 'end') === topic.ended) {
      if (change !== 'delete' || topic === undefined || topic.deleted) return false;
    }
    topic.ended = change === 'end';
    if (change === 'delete') Object.assign(topic, { deleted: true, held: [], dropped: topic.last });
    return true;
  }

  #held(names: readonly string[], now: number): LogEntry[] {
    const held = names.flatMap((name) => {
      const topic = this.#topics.get(name);
      if (topic !== undefined) this.#expire(topic, now);
      return topic?.held ?? [];
    });
    return held.sort((a, b) => a.seq - b.seq);
  }

  read(names: readonly string[], after: number, newestOnly: boolean, now: number) {
    const held = this.#held(names, now).filter(({ seq }) => seq > after);
    const isReplaced = (one: LogEntry) =>
      one.key !== undefined &&
      held.some(({ seq, topic, key }) => seq > one.seq && topic === one.topic && key === one.key);
    const dropped = names.flatMap((topic) => {
      const seq = this.#topics.get(topic)?.dropped ?? this.#floor;
      return seq > after ? [{ topic, seq }] : [];
    });
    return { entries: newestOnly ? held.filter((one) => !isReplaced(one)) : held, dropped };
  }

  find(names: readonly string[], now: number): TopicRecord[] {
    this.#held(names, now);
    return names.flatMap((topic) => {
      const found = this.#topics.get(topic);
      if (found === undefined) return [];
      const { last, dropped, ended, deleted, held } = found;
      const known = { topic, last, dropped, ended, events: held.length, bytes: bytesOf(held) };
      return [deleted ? { ...known, deleted } : known];
    });
  }

  list(after: string, limit: number, now: number): TopicRecord[] {
    const names = [...this.#topics]
      .filter(([name, { deleted }]) => name > after && !deleted)
      .map(([name]) => name);
    return this.find(names.sort().slice(0, limit), now);
  }

  beforeNewest(names: readonly string[], count: number, now: number): number {
    const held = this.#held(names, now);
    if (count === 0 || held.length === 0) return this.head;
    return held[Math.max(0, held.length - count)]!.seq - 1;
  }
}

function bytesOf(entries: readonly LogEntry[]): number {
  return entries.reduce((bytes, { frame }) => bytes + frame.length, 0);
}

/** The first entries, as many as fit, and one at least. */
function pageOf(entries: readonly LogEntry[], maxBytes: number): LogEntry[] {
  let bytes = 0;
  return entries.filter(({ frame }, i) => {
    bytes += frame.length;
    return i === 0 || bytes <= maxBytes;
  });
}

function opened(t: TestContext, options: ConstructorParameters<typeof SqliteLog>[1] = {}): SqliteLog {
  return openLog(t, join(folderFor(t), 'log.db'), options);
}

/** The path of a log with events of two topics, closed. */
function closedLog(t: TestContext): string {
  const path = join(folderFor(t), 'log.db');
  const log = new SqliteLog(path);
  log.append(
    Array.from({ length: 300 }, (_, i) =>
      entry(i + 1, i % 3 === 0 ? 'a' : 'b', { size: 100, key: `k${i % 9}` }),
    ),
  );
  log.close();
  return path;
}

/** The rows of a table, by another connection. */
function count(path: string, table: string): number {
  const database = new sqlite!.DatabaseSync(path, { readOnly: true });
  const { n } = database.prepare(`SELECT count(*) AS n FROM ${table}`).get() as { n: number };
  database.close();
  return n;
}

function alter(path: string, change: (bytes: Buffer) => void): void {
  const bytes = readFileSync(path);
  change(bytes);
  writeFileSync(path, bytes);
}

/** Root may write everywhere, so that a test of permissions would test nothing. */
function asNobody(act: () => void): void {
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid!(65534);
  try {
    act();
  } finally {
    if (isRoot) process.seteuid!(0);
  }
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown }).code;
}

function messageOf(error: unknown): string {
  return (error as Error).message;
}
