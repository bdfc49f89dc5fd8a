// Nodes that run generations, on each kind of log, and readers that leave and come back, over real sockets.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent, get, type IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createDecoder } from '../../lib/decode.ts';
import { serveEvents } from '../../lib/events.ts';
import { Generations, type GenerationsOptions } from '../../lib/generations.ts';
import { Hub } from '../../lib/hub.ts';
import type { Log } from '../../lib/log.ts';
import { ProcessesLog } from '../../lib/processes.ts';
import { RedisLog } from '../../lib/redis.ts';
import { SqliteLog } from '../../lib/sqlite.ts';
import { ModelRedis } from './model-redis/model-redis.ts';
import { openServer } from './server.ts';
import { SharedStore } from './shared-store.ts';
import { sqlite } from './sqlite.ts';

export interface Cleanup {
  after(done: () => unknown): void;
}

export interface TestNode {
  readonly hub: Hub;
  readonly generations: Generations;
  /** Of its streams: `…/events/TOPIC`. */
  readonly url: string;
  /** As `kill -9` does: nothing of this node happens any more. */
  crash(): void;
}

/** Where nodes keep their events. */
export interface Place {
  readonly name: string;
  /** How many nodes can share it. */
  readonly nodes: 1 | 2;
  /** Makes one for a test, and answers what opens the log of a node. */
  open(t: Cleanup, folder: string): Promise<(node: string) => Log | undefined>;
}

const noLog: Place = { name: 'memory', nodes: 1, open: async () => () => undefined };

const inSqlite: Place = {
  name: 'SQLite',
  nodes: 1,

  open: async (_, folder) => () => new SqliteLog(`${folder}/log.db`),
};

/** The others need a Node with `node:sqlite`. */
export const ownPlaces: readonly Place[] = sqlite === undefined ? [noLog] : [noLog, inSqlite];

export const sharedPlaces: readonly Place[] = [
  {
    name: 'a store that nodes share',
    nodes: 2,
    open: async () => {
      const store = new SharedStore();
      return (node) => store.open(node);
    },
  },
  {
    name: 'the owner among several processes',
    nodes: 2,
    open: async (t, folder) => {
      const path = `${folder}/log.sock`;
      const fixture = fileURLToPath(new URL('../fixtures/log-owner.ts', import.meta.url));
      const owner = spawn(process.execPath, ['--import', 'tsx', fixture, path], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      t.after(() => owner.kill('SIGKILL'));
      await once(owner.stdout, 'data');
      // Its questions are answered one a turn, and a busy machine has few of them.
      return () => new ProcessesLog({ path, requestTimeout: 60_000 });
    },
  },
  {
    name: 'a model of Redis',
    nodes: 2,
    open: async () => {
      const redis = new ModelRedis();
      return (node) => new RedisLog(redis.client(node), { appendTimeout: 30_000 });
    },
  },
];

/** Opens a node, with a server for its readers, until the test is over. */
export async function openNode(
  t: Cleanup,
  log: Log | undefined,
  options: GenerationsOptions = {},
): Promise<TestNode> {
  const hub = new Hub({ log, retry: 1 });
  while (hub.failure !== undefined) await sleep(5);
  const generations = new Generations(hub, options);
  const handler = serveEvents(hub, { path: '/events', heartbeat: false });
  const server = await openServer((req, res) => handler(req, res));
  let isCrashed = false;
  t.after(async () => {
    if (!isCrashed) await generations.close();
    await server.close();
    if (!isCrashed) await hub.close();
  });
  return {
    hub,
    generations,
    url: server.url,
    crash: () => {
      isCrashed = true;
    },
  };
}

/** A random number generator that gives the same numbers again for the same seed. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** What a reader has got of a generation, over all of its connections. */
export interface Read {
  readonly tokens: string[];
  /** The types of its last events. */
  readonly ends: string[];
  readonly gaps: string[];
  connections: number;
}

const agent = new Agent({ keepAlive: false });

/**
 * Reads a topic from its beginning to its end. Leaves after a random number of events, `leaves` times, and returns at
 * random to one of the nodes with the id of the last event that it got.
 */
export async function readGeneration(
  urls: readonly string[],
  topic: string,
  {
    leaves = 0,
    delay = 0,
    random = Math.random,
  }: { leaves?: number; delay?: number; random?: () => number } = {},
): Promise<Read> {
  const read: Read = { tokens: [], ends: [], gaps: [], connections: 0 };
  let lastEventId = '';
  await sleep(delay);
  for (let left = leaves; ; left--) {
    const url = urls[Math.floor(random() * urls.length)];
    const headers = lastEventId === '' ? {} : { 'Last-Event-ID': lastEventId };
    const request = get(`${url}events/${topic}?from=earliest`, { agent, headers });
    // A busy machine refuses some of a thousand connections that come together: like any client, this one comes back.
    const response = await new Promise<IncomingMessage | undefined>((resolve) => {
      request.on('response', resolve).on('error', () => resolve(undefined));
    });
    if (response === undefined) {
      await sleep(random() * 20);
      continue;
    }
    read.connections++;
    if (response.statusCode === 204) return read;
    let until = left > 0 ? 1 + Math.floor(random() * 8) : Infinity;
    let isOver = false;
    const decoder = createDecoder({
      lastEventId,
      onEvent: ({ event, data, lastEventId: id }) => {
        if (until === 0) return; // the rest of a chunk, which this reader no longer sees
        lastEventId = id;
        if (event === 'sluice:gap') read.gaps.push(data);
        else if (event === 'sluice:end') isOver = true;
        else if (event === 'message') read.tokens.push(data);
        else if (!event.startsWith('sluice:')) read.ends.push(event);
        if (--until === 0) response.destroy();
      },
    });
    response.on('data', (chunk: Uint8Array) => decoder.feed(chunk)).on('error', () => {});
    await once(response, 'close');
    if (isOver) return read;
    await sleep(random() * 20);
  }
}
