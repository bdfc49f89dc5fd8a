// The model of Redis (test/helpers/model-redis/) against a real one: both get the same random commands and scripts,
// and must answer the same and hold the same in the end.
//
//     REDIS_MODEL_SEED=7 npx tsx --test test/interop/redis-model.test.ts     replays one
//     REDIS_MODEL_RUNS=2000 …                                                runs more of them

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Redis } from 'ioredis';
import { Failure, type Reply, Status } from '../helpers/model-redis/reply.ts';
import { Server } from '../helpers/model-redis/server.ts';
import { Chance, type Stream } from '../simulation/nodes/chance.ts';
import { randomCommand } from './helpers/redis-commands.ts';
import { startRedis } from './helpers/redis-servers.ts';

const { REDIS_MODEL_SEED, REDIS_MODEL_RUNS = '150' } = process.env;
const first = Number(REDIS_MODEL_SEED ?? 1);
const runs = REDIS_MODEL_SEED === undefined ? Number(REDIS_MODEL_RUNS) : 1;
const COMMANDS = 120;

type Command = readonly string[];

describe('the model of Redis', () => {
  let redis: Redis;
  const cleanups: (() => unknown)[] = [];

  before(async () => {
    const { port } = await startRedis({ after: (cleanup) => void cleanups.push(cleanup) });
    redis = new Redis({ port, protocol: 2 } as { port: number });
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
});

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
    await dump(async (command) => plain(server.execute(command))),
    await dump(async (command) => (await allOf(redis, [command]))[0]),
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
    return { error: answer.error.replace(WHERE, '').replace(/[^ -~]+/g, '') };
  if (/^(?:HKEYS|HVALS)$/i.test(name) && Array.isArray(answer)) return [...answer].sort();
  if (/^HGETALL$/i.test(name) && Array.isArray(answer)) return pairs(answer as string[]).sort();
  if (/^P?TTL$/i.test(name) && typeof answer === 'number' && answer > 0) return Math.round(answer / 10_000);
  return answer;
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

async function dump(ask: (command: Command) => Promise<Plain | undefined>): Promise<Plain> {
  const all: Plain[] = [];
  for (const key of keysOf) {
    const type = String(await ask(['TYPE', key]));
    if (type === 'none') continue;
    const command = contents[type]!(key);
    const ttl = comparable(['PTTL'], await ask(['PTTL', key]));
    all.push([key, type, comparable(command, await ask(command))!, ttl!]);
  }
  return all;
}

const keysOf = ['k1', 'k2', 'k3', 'k4', 'k5', 'k6', 'k7'];

export type { Stream };
