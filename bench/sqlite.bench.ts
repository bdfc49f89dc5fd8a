// Measures a hub with a log in SQLite: what a turn costs beside memory, and resuming from the file. The floor is one
// prepared INSERT for each event into a table without an index, in one transaction for each turn.
//   npx tsx bench/sqlite.bench.ts          (Node 22.13 or later)

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Hub, type HubOptions, type Sink } from '../lib/hub.ts';
import { SqliteLog } from '../lib/sqlite.ts';
import { type Effort, type Measurement, median, runAlone } from './harness.ts';

/** A text of 100 bytes, as the mission's events are. */
const DATA = 'x'.repeat(100);
const EVENTS = 20_000;
const RESUMED = 1000;

interface Run {
  readonly nanoseconds: number;
  readonly eventsPerSecond: number;
}

/** CPU time and time on the wall of work on so many events. */
function timed(events: number, work: () => void): Run {
  const [start, since] = [process.cpuUsage(), performance.now()];
  work();
  const { user, system } = process.cpuUsage(start);
  const seconds = (performance.now() - since) / 1000;
  return { nanoseconds: ((user + system) * 1000) / events, eventsPerSecond: events / seconds };
}

function inFolder<T>(act: (path: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  try {
    return act(join(folder, 'events.db'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

interface ByHand {
  readonly hub: Hub;
  /** Runs turns until there are none. */
  readonly rest: () => void;
}

function open(options: HubOptions): ByHand {
  const planned: (() => void)[] = [];
  const hub = new Hub({ ...options, schedule: (turn) => planned.push(turn) });
  const rest = (): void => {
    while (planned.length > 0) planned.shift()!();
  };
  return { hub, rest };
}

function publish({ hub, rest }: ByHand, batch: number): void {
  for (let i = 0; i < EVENTS; i += batch) {
    for (let j = 0; j < batch; j++) hub.publish('topic', { data: DATA });
    rest();
  }
}

const toMemory = (batch: number): Run => {
  const hub = open({});
  return timed(EVENTS, () => publish(hub, batch));
};

const toFile = (batch: number, durability: 'process' | 'power'): Run =>
  inFolder((path) => {
    const log = new SqliteLog(path, { durability });
    const hub = open({ log });
    const run = timed(EVENTS, () => publish(hub, batch));
    log.close();
    return run;
  });

const insertOnly = (batch: number): Run =>
  inFolder((path) => {
    const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
    const database = new DatabaseSync(path);
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL');
    database.exec('CREATE TABLE events (seq INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT');
    const [begin, insert, commit] = ['BEGIN', 'INSERT INTO events VALUES (?, ?)', 'COMMIT'].map((sql) =>
      database.prepare(sql),
    );
    const frame = Buffer.from(`data: ${DATA}\n\n`);
    const run = timed(EVENTS, () => {
      for (let i = 0; i < EVENTS; i += batch) {
        begin!.run();
        for (let j = 0; j < batch; j++) insert!.run(i + j, frame);
        commit!.run();
      }
    });
    database.close();
    return run;
  });

/** Readers that come back to a hub, whose file has a thousand events that they lack. */
function resume(readers: number, places: number, isFromFile: boolean): Run {
  const run = (log: SqliteLog | undefined): Run => {
    const first = open({ log });
    for (let i = 0; i < RESUMED + places; i++) first.hub.publish('topic', { data: DATA });
    first.rest();
    // A hub that is opened again has nothing in memory.
    const { hub, rest } = log === undefined ? first : open({ log });
    const [epoch] = hub.position.split('-');
    let got = 0;
    for (let i = 0; i < readers; i++) {
      const sink: Sink = {
        write: (chunk) => {
          got += chunk.length;
          return true;
        },
        end() {},
        on() {},
        off() {},
      };
      hub.subscribe('topic', sink, { lastEventId: `${epoch}-${i % places}` });
    }
    const events = readers * RESUMED;
    const timing = timed(events, rest);
    if (got < events * DATA.length) throw new Error(`the readers got ${got} bytes`);
    return timing;
  };
  if (!isFromFile) return run(undefined);
  return inFolder((path) => {
    const log = new SqliteLog(path);
    const timing = run(log);
    log.close();
    return timing;
  });
}

export function bench({ rounds, round }: Effort): Measurement[] {
  if (process.getBuiltinModule('node:sqlite') === undefined) return [];
  const isQuick = round < 10;
  const found: Measurement[] = [];
  const add = (
    name: string,
    peer: string,
    runs: readonly Run[],
    parameters: Record<string, number>,
  ): void => {
    const figures = ['nanoseconds', 'eventsPerSecond'] as const;
    for (const figure of figures)
      found.push({
        case: name,
        peer,
        figure,
        value: median(runs.map((run) => run[figure])),
        with: parameters,
      });
  };
  const measureAll = (
    name: string,
    parameters: Record<string, number>,
    works: Readonly<Record<string, () => Run>>,
  ): void => {
    const results = new Map<string, Run[]>(Object.keys(works).map((peer) => [peer, []]));
    // In turns, so that a change of the machine's speed affects all of them. The first round warms up.
    for (let i = -1; i < rounds; i++) {
      for (const [peer, work] of Object.entries(works)) {
        const run = work();
        if (i >= 0) results.get(peer)!.push(run);
      }
    }
    for (const [peer, runs] of results) add(name, peer, runs, parameters);
  };
  for (const batch of isQuick ? [100] : [1, 16, 100, 1000]) {
    measureAll(
      'publishing with a log, an event',
      { batch },
      {
        sluice: () => toFile(batch, 'process'),
        memory: () => toMemory(batch),
        insert: () => insertOnly(batch),
      },
    );
  }
  measureAll(
    'publishing with a log that survives a loss of power, an event',
    { batch: 100 },
    {
      sluice: () => toFile(100, 'power'),
    },
  );
  for (const places of isQuick ? [1] : [1, RESUMED]) {
    const readers = isQuick ? 100 : 1000;
    measureAll(
      'resuming with 1,000 events from a log, an event',
      { readers, places },
      {
        sluice: () => resume(readers, places, true),
        memory: () => resume(readers, places, false),
      },
    );
  }
  return found;
}

await runAlone(import.meta.url, bench);
