// Measures what it costs a node that its log is shared: it follows what others publish, also without readers.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Reader, type Served, startNode, startReader, usageOf } from '../loads/lead.ts';
import { startOn } from '../loads/redis.ts';
import { complaint, costOf, usedBetween } from './measure.ts';
import { adapterOf, onNodes, onRedis, withoutRedis } from './on-redis.ts';
import { repeat, type Scenario, type Settings } from './scenario.ts';
import { fill } from './stage.ts';

/** Milliseconds between two turns. */
const INTERVAL = 5;
/** Milliseconds in which a follower gets what was published last. */
const SETTLING = 300;

export const follow: Scenario = {
  name: 'follow',
  constant:
    '200 turns a second, in each of which one process publishes a batch to one topic; 100 bytes of data. `sluice`: ' +
    'another node follows in Redis; `processes`: another process follows over a Unix socket; `xread`: a process that ' +
    'only reads the stream. Nobody reads from the one that follows',
  shows: 'CPU time of the process that follows per event, by the size of a batch',
  peers: ['sluice', 'processes', 'xread'],
  missing: (peer) => (peer === 'processes' ? undefined : withoutRedis(peer)),
  async run(settings, note) {
    const { batches = [1, 100], isQuick } = settings;
    const duration = isQuick ? 200 : 3000;
    await repeat(settings, async (peer, repetition) => {
      const costs: number[] = [];
      await (PAIRS[peer] ?? onTwoNodes)(peer, settings, async ({ publisher, pids, check }) => {
        for (const batch of batches) {
          await publisher.run({ batch, interval: INTERVAL, duration: duration / 2 });
          await sleep(SETTLING);
          const before = usageOf(pids);
          const { turns } = await publisher.run({ batch, interval: INTERVAL, duration });
          await sleep(SETTLING);
          costs.push(costOf(usedBetween(before, usageOf(pids)), turns * batch).cpuPerDelivery);
        }
        await check();
      });
      for (const [i, batch] of batches.entries())
        note({
          scenario: 'follow',
          peer,
          parameters: { batch },
          repetition,
          figures: { cpuPerEvent: costs[i]! },
        });
    });
  },
};

interface Pair {
  readonly publisher: Served;
  /** Of the process that follows. */
  readonly pids: readonly number[];
  /** Rejects where that has not followed. */
  check(): Promise<void>;
}

type OnPair = (peer: string, settings: Settings, play: (pair: Pair) => Promise<void>) => Promise<void>;

const onTwoNodes: OnPair = (peer, settings, play) =>
  onRedis((redis) => onNodes(2, () => startOn(redis, adapterOf(peer, settings)), pairOf(play)));

const onTwoProcesses: OnPair = async (peer, _settings, play) => {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  try {
    await onNodes(2, () => startNode(peer, [], { LOG_SOCKET: join(folder, 'log') }), pairOf(play));
  } finally {
    rmSync(folder, { recursive: true });
  }
};

/** An event that is published in the end comes after all others, so who delivers it has followed. */
function pairOf(play: (pair: Pair) => Promise<void>) {
  return async ([publisher, other]: readonly Served[]): Promise<void> => {
    const check = () =>
      withReader((reader) =>
        fill(
          { server: { ...publisher!, port: other!.port }, reader, stop: async () => {} },
          { connections: 1 },
        ),
      );
    await play({ publisher: publisher!, pids: other!.pids(), check });
  };
}

const onStream: OnPair = (_peer, _settings, play) =>
  onRedis((redis) =>
    onNodes(
      1,
      () => startOn(redis, 'xadd'),
      ([publisher]) =>
        withReader(async (reader) => {
          await reader.ask({ do: 'xread', port: redis.port, key: 't0', bytes: 100 });
          const check = async () => {
            const expected = Number(await redis.command('XINFO', 'STREAM', 't0').then(addedOf));
            const wrong = complaint(await reader.ask({ do: 'await', events: expected }), expected);
            if (wrong !== undefined) throw new Error(wrong);
          };
          await play({ publisher: publisher!, pids: [reader.pid], check });
        }),
    ),
  );

/** How many entries a stream has had, as `redis-cli` prints it. */
function addedOf(info: string): string {
  return /^entries-added\n(\d+)/m.exec(info)![1]!;
}

const PAIRS: Readonly<Record<string, OnPair>> = { processes: onTwoProcesses, xread: onStream };

async function withReader<T>(play: (reader: Reader) => Promise<T>): Promise<T> {
  const reader = await startReader('node');
  try {
    return await play(reader);
  } finally {
    await reader.stop();
  }
}
