// Finds out whether a Redis can hold a log, and says in one line why it cannot.
// Needs `redis-client.ts` and `redis-store.ts`, and what these need, beside it.

import type { RedisConnection, RedisFailure } from './redis-client.ts';
import { type Place, type RedisStore, redisError } from './redis-store.ts';

/** Milliseconds. */
const VERIFY_TIMEOUT = 5000;

/** The oldest that has all commands of the scripts. */
const OLDEST = [6, 2] as const;

/**
 * @returns `false` where it cannot be asked now.
 * Rejects with a `RedisCode` where it cannot hold the log until somebody changes something.
 */
export async function verifyRedis(
  connection: RedisConnection,
  store: RedisStore,
  { known, waits }: { readonly known: Place; readonly waits: boolean },
): Promise<boolean> {
  try {
    await checkVersion(connection, store);
    await store.check(connection, known, VERIFY_TIMEOUT);
    await checkCommands(connection, store, waits);
    return true;
  } catch (error) {
    const { kind, reply } = Object(error) as Partial<RedisFailure>;
    if (reply === 'WRONGTYPE') throw await foreignKey(connection, store, error);
    const fault = faultOf(error);
    if (fault !== undefined) throw fault;
    if (kind === undefined) throw error;
    return false;
  }
}

/** Why a server never lets us do what we ask; `undefined` where it may soon. */
export function faultOf(error: unknown): Error | undefined {
  const { kind, reply = '', message, code } = Object(error) as RedisFailure & { code?: unknown };
  if (PERMANENT.includes(code)) return error as Error;
  if (DENIED.includes(reply))
    return redisError('ERR_SSE_REDIS_DENIED', `Redis refuses this user: ${message}`, error);
  if (kind === 'reply' && reply === 'ERR' && /unknown command|disabled|not allowed/i.test(message))
    return redisError('ERR_SSE_REDIS_VERSION', `this Redis lacks what the log needs: ${message}`, error);
  if (NOT_REDIS.test(message ?? ''))
    return redisError('ERR_SSE_REDIS_FOREIGN', `this is no Redis server: ${message}`, error);
  return undefined;
}

/** What a script has found out. */
const PERMANENT: readonly unknown[] = [
  'ERR_SSE_REDIS_NEWER',
  'ERR_SSE_REDIS_LINEAGE',
  'ERR_SSE_REDIS_VERSION',
];

const DENIED = ['NOAUTH', 'WRONGPASS', 'NOPERM'];

/** What the clients say of an answer in another protocol. */
const NOT_REDIS = /protocol error|unknown RESP type|invalid (?:response|type|reply)/i;

async function checkVersion(connection: RedisConnection, { keys }: RedisStore): Promise<void> {
  const info = String(await connection.send(['INFO', 'server'], { key: keys.meta, timeout: VERIFY_TIMEOUT }));
  const [, version = '', major, minor] = /^redis_version:((\d+)\.(\d+)\S*)/m.exec(info) ?? [];
  // Some services do not say it.
  if (version === '') return;
  const [most, least] = OLDEST;
  if (Number(major) > most || (Number(major) === most && Number(minor) >= least)) return;
  const message = `the log needs Redis ${most}.${least} or later, and this is ${version}`;
  throw redisError('ERR_SSE_REDIS_VERSION', message);
}

/** What the scripts need, and what the log sends beside them. */
async function checkCommands(connection: RedisConnection, store: RedisStore, waits: boolean): Promise<void> {
  const refused = await store.tryCommands(connection, VERIFY_TIMEOUT);
  if (refused !== undefined && /can't (?:run|access)|no permission|NOPERM/i.test(refused.why))
    throw redisError('ERR_SSE_REDIS_DENIED', `Redis refuses this user: it may not run ${refused.command}`);
  const timeout = VERIFY_TIMEOUT;
  await store.feedAfter(connection, { epoch: 0, seq: 0 }, { count: 1, timeout });
  if (waits) await connection.send(['WAIT', '0', '1'], { key: store.keys.meta, timeout });
}

/** Names the key that is of another application. */
async function foreignKey(connection: RedisConnection, { keys }: RedisStore, cause: unknown): Promise<Error> {
  const types = { meta: 'hash', feed: 'stream', index: 'zset', names: 'zset', stale: 'zset' } as const;
  for (const [name, expected] of Object.entries(types)) {
    const key = keys[name as keyof typeof types];
    const type = String(await connection.send(['TYPE', key], { key, timeout: VERIFY_TIMEOUT }));
    if (type === expected || type === 'none') continue;
    const message = `the key "${key}" is a ${type}, not the ${expected} of a log: choose another \`name\``;
    return redisError('ERR_SSE_REDIS_FOREIGN', message, cause);
  }
  return redisError('ERR_SSE_REDIS_FOREIGN', 'a key of the log is of another type', cause);
}
