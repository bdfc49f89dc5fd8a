// The model of Redis (test/helpers/model-redis/) against a real one: both get the same random commands and scripts,
// and must answer the same and hold the same in the end.
//
//     REDIS_MODEL_SEED=7 npx tsx --test test/interop/redis-model.test.ts     replays one
//     REDIS_MODEL_RUNS=2000 …                                                runs more of them

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Redis } from 'ioredis';
import { openRedis, type RedisConnection } from '../../lib/redis-client.ts';
import type { Lineage } from '../../lib/redis-store.ts';
import { ModelRedis } from '../helpers/model-redis/model-redis.ts';
import { Failure, type Reply, Status } from '../helpers/model-redis/reply.ts';
import { Server } from '../helpers/model-redis/server.ts';
import { Chance } from '../simulation/nodes/chance.ts';
import { keys, randomCommand } from './helpers/redis-commands.ts';
import { startRedis } from './helpers/redis-servers.ts';
import { randomStep, type Side, type Step, storesOf } from './helpers/redis-steps.ts';

const { REDIS_MODEL_SEED, REDIS_MODEL_RUNS = '150' } = process.env;
const first = Number(REDIS_MODEL_SEED ?? 1);
const runs = REDIS_MODEL_SEED === undefined ? Number(REDIS_MODEL_RUNS) : 1;
const COMMANDS = 120;
const STEPS = 80;

type Command = readonly string[];

describe('the model of Redis', () => {
  let redis: Redis;
  const cleanups: (() => unknown)[] = [];

  before(async () => {
    const args = ['--enable-debug-command', 'yes', '--maxmemory-policy', 'noeviction'];
    const { port } = await startRedis({ after: (cleanup) => void cleanups.push(cleanup) }, { args });
    redis = new Redis({ port, protocol: 2 });
  });

  after(async () => {
    redis.disconnect();
    for (const cleanup of cleanups.reverse()) await cleanup();
  });

  it('answers random commands as a real one does', async () => {
    for (let seed = first; seed < first + runs; seed++) {
      const chance = new Chance(seed).stream('commands');
      const commands = Array.from({ length: COMMANDS }, () => randomCommand(chance));
      await compare(redis, commands, `REDIS_MODEL_SEED=${seed}`);
    }
  });

  it('answers random steps of the log in Redis as a real one does, and holds the same afterwards', async () => {
    for (let seed = first; seed < first + runs; seed++) {
      const chance = new Chance(seed).stream('steps');
      const lineage = chance.pick(['gap', 'gap', 'trust', 'position'] as const);
      const now = Date.now();
      const steps = Array.from({ length: STEPS }, () => randomStep(chance, now));
      await compareSteps(redis, lineage, steps, `REDIS_MODEL_SEED=${seed}`);
    }
  });
});

// ── commands ────────────────────────────────────────────────────────────────────────────────────────────────

async function compare(redis: Redis, commands: readonly Command[], seed: string): Promise<void> {
  await redis.flushall();
  const server = newServer();
  const theirs = await allOf(redis, commands);
  commands.forEach((command, i) => {
    const own = plain(server.execute(command));
    const known = commands.slice(0, i + 1).filter((other) => other.some((word) => command.includes(word)));
    assert.deepEqual(
      comparable(command, own),
      comparable(command, theirs[i]),
      `${seed}: number ${i}, ${JSON.stringify(command)}, after ${JSON.stringify(known.slice(-12))}`,
    );
  });
  assert.deepEqual(
    await dump(keys, async (command) => plain(server.execute(command))),
    await dump(keys, async (command) => (await allOf(redis, [command]))[0]),
    seed,
  );
}

function newServer(): Server {
  return new Server({ runId: 'a'.repeat(40), replid: 'b'.repeat(40) }, () => Date.now() * 1000);
}

/** What a client sees of an answer. */
type Plain = string | number | null | Plain[] | { readonly error: string };

function plain(reply: Reply | Failure): Plain {
  if (reply instanceof Failure) return { error: reply.message };
  if (reply instanceof Status) return reply.text;
  return Array.isArray(reply) ? reply.map(plain) : (reply as string | number | null);
}

async function allOf(redis: Redis, commands: readonly Command[]): Promise<Plain[]> {
  const pipeline = redis.pipeline();
  for (const [name, ...args] of commands)
    pipeline.callBuffer(name!, ...args.map((arg) => Buffer.from(arg, 'latin1')));
  const answers = (await pipeline.exec()) ?? [];
  return answers.map(([error, value]) => (error ? { error: error.message } : received(value)));
}

function received(value: unknown): Plain {
  if (Buffer.isBuffer(value)) return value.toString('latin1');
  if (value instanceof Error) return { error: value.message };
  if (Array.isArray(value)) return value.map(received);
  return value as Plain;
}

/** Where a script has failed. */
const WHERE = / script: [0-9a-f]{40}, on @user_script:\d+\.$/;

/** Without what is different each time, or has no order. */
function comparable([name = '']: Command, answer: Plain | undefined): Plain | undefined {
  if (typeof answer === 'object' && answer !== null && 'error' in answer)
    return { error: printable(answer.error) };
  // A script may return the message of an error as a text.
  if (typeof answer === 'string' && answer.startsWith('ERR ')) return printable(answer);
  if (/^(?:HKEYS|HVALS)$/i.test(name) && Array.isArray(answer)) return [...answer].sort();
  if (/^HGETALL$/i.test(name) && Array.isArray(answer)) return pairs(answer as string[]).sort();
  if (/^P?TTL$/i.test(name) && typeof answer === 'number' && answer > 0) {
    // What is left of whole tens of seconds is less; what is left until a time far away is anything.
    return answer > 1e9 ? Math.round(answer / 1e9) : Math.ceil(answer / 10_000);
  }
  return answer;
}

/** A message without where its script has failed, and what C does not print. */
function printable(message: string): string {
  return message.replace(WHERE, '').replace(/[^ -~]+/g, '');
}

function pairs(items: readonly string[]): string[] {
  return items.flatMap((item, i) => (i % 2 === 0 ? [`${item} ${items[i + 1]}`] : []));
}

const contents: Readonly<Record<string, (key: string) => Command>> = {
  string: (key) => ['GET', key],
  list: (key) => ['LRANGE', key, '0', '-1'],
  hash: (key) => ['HGETALL', key],
  zset: (key) => ['ZRANGE', key, '0', '-1', 'WITHSCORES'],
  stream: (key) => ['XRANGE', key, '-', '+'],
};

async function dump(
  names: readonly string[],
  ask: (command: Command) => Promise<Plain | undefined>,
): Promise<Plain> {
  const all: Plain[] = [];
  for (const key of names) {
    const type = String(await ask(['TYPE', key]));
    if (type === 'none') continue;
    const command = contents[type]!(key);
    const ttl = comparable(['PTTL'], await ask(['PTTL', key]));
    all.push([key, type, comparable(command, await ask(command))!, ttl!]);
  }
  return all;
}

// ── the log ─────────────────────────────────────────────────────────────────────────────────────────────────

async function compareSteps(
  redis: Redis,
  lineage: Lineage,
  steps: readonly Step[],
  seed: string,
): Promise<void> {
  await redis.call('CONFIG', 'SET', 'maxmemory', '0');
  await redis.flushall();
  const [real, model] = [await realSide(redis, lineage), await modelSide(lineage)];
  try {
    for (const [i, step] of steps.entries()) {
      const [theirs, own] = [await outcomeOf(step, real), await outcomeOf(step, model)];
      const before = steps.slice(Math.max(0, i - 15), i + 1).map(({ title }) => title);
      assert.equal(own, theirs, `${seed}: number ${i}, after ${before.join(' | ')}`);
    }
    assert.equal(await contentOf(model), await contentOf(real), seed);
  } finally {
    real.connection.close();
    model.connection.close();
  }
}

/** A side, and what stands for its epochs, ids and times when it is compared with the other. */
interface NamedSide extends Side {
  readonly names: Names;
  keys(): Promise<string[]>;
}

async function realSide(redis: Redis, lineage: Lineage): Promise<NamedSide> {
  return {
    connection: await opened(redis),
    known: { epoch: 0, seq: 0 },
    stores: storesOf(lineage),
    names: new Names(),
    command: async (...words) => (await allOf(redis, [words]))[0],
    setMemory: (isFull) => redis.call('CONFIG', 'SET', 'maxmemory', isFull ? '1' : '0'),
    renameOrder: () => redis.call('DEBUG', 'CHANGE-REPL-ID'),
    keys: async () => (await redis.keysBuffer('*')).map((key) => key.toString('latin1')),
  };
}

async function modelSide(lineage: Lineage): Promise<NamedSide> {
  const model = new ModelRedis();
  const ok = (act: () => void) => async () => {
    act();
    return 'OK';
  };
  return {
    connection: await opened(model.client('node')),
    known: { epoch: 0, seq: 0 },
    stores: storesOf(lineage),
    names: new Names(),
    command: async (...words) => plain(model.do(...words)),
    setMemory: (isFull) => ok(() => Object.assign(model.primary, { isFull }))(),
    renameOrder: ok(() => model.renameOrder()),
    keys: async () => model.primary.keys.keys(),
  };
}

function opened(client: unknown): Promise<RedisConnection> {
  return new Promise((resolve, reject) => {
    const connection = openRedis(client, { onUp: () => resolve(connection), onDown: reject });
  });
}

async function outcomeOf(step: Step, side: NamedSide): Promise<string> {
  try {
    return side.names.in((await step.run(side)) ?? null);
  } catch (error) {
    const { message, kind, reply, code } = error as Record<string, unknown>;
    return side.names.in({ message: String(message).replace(WHERE, ''), kind, reply, code });
  }
}

async function contentOf(side: NamedSide): Promise<string> {
  const ask = (command: Command): Promise<Plain> => side.command(...command) as Promise<Plain>;
  const dumped = (await dump(await side.keys(), ask)) as readonly Plain[];
  // Nodes have random names.
  return side.names.in(dumped.map((row) => JSON.stringify(row).replace(/:n:\w+/, ':n:')).sort());
}

/** Numbers what is different on each server: epochs and ids. */
class Names {
  readonly #known = new Map<string, string>();

  in(value: unknown): string {
    const text = JSON.stringify(value, (_, one) => (one instanceof Uint8Array ? String(one) : one));
    return text
      .replace(/\b[0-9a-f]{40}\b|\b\d{16}\b/g, (word) => this.#numbered(word))
      .replace(/\b\d{13}\b/g, 'time');
  }

  #numbered(word: string): string {
    const name = this.#known.get(word) ?? `name ${this.#known.size}`;
    this.#known.set(word, name);
    return name;
  }
}
