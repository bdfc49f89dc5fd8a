// The server with an SQLite log, killed again and again under load: what its readers get and its publishers are told.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '../lib/client.ts';
import { Hub } from '../lib/hub.ts';
import { parseId } from '../lib/protocol.ts';
import { createSseServer } from '../lib/server.ts';
import { SqliteLog } from '../lib/sqlite.ts';
import { freePort } from './helpers/free-port.ts';
import { times } from './helpers/hub.ts';
import { isLong, often } from './helpers/long.ts';

const [KILLS, READERS] = [often(4, 100), often(12, 200)];
const TOPICS = ['t0', 't1', 't2'];
const COMMAND = join(import.meta.dirname, '../lib/command/bin.ts');
const hasSqlite = process.getBuiltinModule('node:sqlite') !== undefined;

/** A server at one port that can be killed and started again. */
class Server {
  readonly url: string;
  readonly #args: readonly string[];
  #child: ChildProcess | undefined;

  constructor(port: number, args: readonly string[]) {
    this.url = `http://127.0.0.1:${port}`;
    this.#args = ['serve', '--port', String(port), '--retry', '100ms', ...args];
  }

  async start(): Promise<void> {
    const child = spawn(process.execPath, ['--import', 'tsx', COMMAND, ...this.#args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    child.stderr!.resume();
    const [line] = await Promise.race([once(child.stdout!, 'data'), once(child, 'exit')]);
    assert.match(String(line), /listening on/);
    child.stdout!.resume();
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child!;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    await gone;
  }
}

/**
 * Publishes numbers from 0 on, each until it is acknowledged, the last one too; adds the ids to `ids`, in order.
 */
async function publish(
  url: string,
  topic: string,
  stop: AbortSignal,
  ids: string[],
  onStatus: (status: number) => void = () => {},
): Promise<void> {
  for (let isOpen = false; isOpen || !stop.aborted; ) {
    const number = ids.length;
    isOpen = true; // what fails may have been published all the same
    try {
      const answer = await fetch(`${url}/topics/${topic}`, {
        method: 'POST',
        body: String(number),
        headers: { 'Idempotency-Key': `${topic} ${number}` },
      });
      onStatus(answer.status);
      if (answer.status === 200) {
        ids.push(((await answer.json()) as { id: string }).id);
        isOpen = false;
      } else {
        assert.equal(answer.status, 503);
        await sleep(20);
      }
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      await sleep(20);
    }
  }
}

interface Received {
  readonly texts: string[];
  readonly ids: string[];
  readonly gaps: string[];
}

async function read(
  url: string,
  topics: readonly string[],
  signal: AbortSignal,
): Promise<Map<string, Received>> {
  const received = new Map(topics.map((topic) => [topic, { texts: [], ids: [], gaps: [] } as Received]));
  const query = topics.map((topic) => `topic=${topic}`).join('&');
  const events = connect(`${url}/events?${query}&from=earliest`, {
    signal,
    minRetryDelay: 20,
    backoffDelay: 50,
    maxBackoffDelay: 200,
    onGap: ({ reason, topics: lost }) => {
      for (const topic of lost) received.get(topic)?.gaps.push(reason);
    },
  });
  for await (const { data, id, event } of events) {
    const one = received.get(event) ?? received.get(topics[0]!)!;
    one.texts.push(data);
    one.ids.push(id ?? '');
  }
  return received;
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await sleep(5);
}

function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-durability-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

if (hasSqlite) {
  it(`loses nothing that was acknowledged and gives no reader a gap, through ${KILLS} kills`, async (t) => {
    const server = new Server(await freePort(), ['--log', `sqlite:${join(folderFor(t), 'events.db')}`]);
    t.after(() => server.kill());
    await server.start();
    const stop = new AbortController();
    const published = TOPICS.map((): string[] => []);
    const publishers = TOPICS.map((topic, i) => publish(server.url, topic, stop.signal, published[i]!));
    const end = new AbortController();
    const readers = Array.from({ length: READERS }, (_, i) => read(server.url, [TOPICS[i % 3]!], end.signal));
    for (let i = 0; i < KILLS; i++) {
      const before = published.map(({ length }) => length);
      await sleep(100 + 13 * (i % 30));
      await until(() => published.every(({ length }, one) => length > before[one]!));
      await server.kill();
      await server.start();
    }
    await sleep(200);
    stop.abort();
    await Promise.all(publishers);
    // The readers get the rest, and then their end.
    for (const topic of TOPICS) {
      const { status } = await fetch(`${server.url}/topics/${topic}`, { method: 'DELETE' });
      assert.equal(status, 204);
    }
    const all = await Promise.all(readers);
    for (const [i, received] of all.entries()) {
      const topic = TOPICS[i % 3]!;
      const { texts, ids, gaps } = received.get(topic)!;
      const acknowledged = published[i % 3]!;
      assert.deepEqual(gaps, []);
      assert.deepEqual(ids, acknowledged, `reader ${i} of ${topic}`);
      assert.deepEqual(
        texts,
        Array.from(acknowledged, (_, number) => String(number)),
      );
    }
    // One epoch: nothing was lost, so ids go on.
    assert.equal(new Set(published.flat().map((id) => parseId(id)?.epoch)).size, 1);
  });

  it('tells publishers that its disk is full, loses nothing that it has acknowledged, and goes on by itself', async (t) => {
    const log = new SqliteLog(join(folderFor(t), 'events.db'), { maxPages: 300 });
    const hub = new Hub({ log, onError: () => {} });
    const server = createSseServer({ hub });
    const url = await server.listen(0);
    t.after(async () => {
      await server.close({ deadline: 100 });
      await hub.close();
    });
    const end = new AbortController();
    const readers = times(5, () => read(url, ['t0'], end.signal));
    await until(() => hub.size === 5);
    const stop = new AbortController();
    const statuses = new Map<number, number>();
    const ids: string[] = [];
    const publisher = publish(url, 't0', stop.signal, ids, (status) => {
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    });
    await until(() => (statuses.get(200) ?? 0) >= 20);
    // Something else takes all the room.
    while (hub.failure === undefined) {
      const batch = times(50, () => ({ data: 'x'.repeat(4000) }));
      await hub.appendAll('filler', batch).catch(() => {});
    }
    const fullAt = performance.now();
    await until(() => (statuses.get(503) ?? 0) >= 5);
    const acknowledged = statuses.get(200);
    await sleep(isLong ? 10_000 : 500);
    assert.equal((await fetch(`${url}/readyz`)).status, 503);
    assert.match(await (await fetch(`${url}/metrics`)).text(), /^sluice_log_available 0$/m);
    assert.deepEqual([statuses.get(200), hub.size], [acknowledged, 5]);
    assert.ok(performance.now() - fullAt >= (isLong ? 10_000 : 500));
    // Somebody makes room.
    await hub.change('filler', 'delete');
    await until(() => (statuses.get(200) ?? 0) >= acknowledged! + 20);
    assert.equal((await fetch(`${url}/readyz`)).status, 200);
    stop.abort();
    await publisher;
    await hub.change('t0', 'end');
    for (const received of await Promise.all(readers)) {
      const { texts, gaps } = received.get('t0')!;
      assert.deepEqual([texts, gaps], [Array.from(ids, (_, number) => String(number)), []]);
    }
    assert.deepEqual([...statuses.keys()].sort(), [200, 503]);
  });
} else {
  it('does not start on a Node without node:sqlite, and says which one has it', async (t) => {
    const args = [
      '--import',
      'tsx',
      COMMAND,
      'serve',
      '--port',
      '0',
      '--log',
      `sqlite:${join(folderFor(t), 'x.db')}`,
    ];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr!.on('data', (text) => (errors += String(text)));
    const [code] = await once(child, 'close');
    assert.equal(code, 1);
    assert.match(errors, /22\.13/);
  });
}
