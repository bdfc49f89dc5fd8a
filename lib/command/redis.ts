// Keeps the events of `sluice serve` in Redis (`--log redis://HOST`), through a client that the user has installed.
// Needs `../redis.ts`, `../server.ts` and `argv.ts` beside it.

import { createRequire } from 'node:module';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { RedisLog } from '../redis.ts';
import type { LogLine } from '../server.ts';
import { usageError } from './argv.ts';

/** Where a Redis is, and how to log in there. */
export interface RedisAddress {
  readonly host: string;
  readonly port: number;
  readonly isTls: boolean;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly database: number;
  /** The address without the password, for messages. */
  readonly shown: string;
}

/** The options of the command that this log has. */
export interface RedisValues {
  readonly log?: string | undefined;
  readonly 'log-name': string | undefined;
  readonly 'log-lineage': 'gap' | 'trust' | 'position' | undefined;
  readonly 'log-wait': number | undefined;
  readonly history: number | undefined;
  readonly 'history-bytes': number | undefined;
  readonly 'history-age': number | undefined;
  readonly 'max-topics': number | undefined;
}

/** The options of `RedisLog`, as the command calls them. */
export const REDIS_OPTION_NAMES = {
  name: ['log-name'],
} as const;

/** Any of the spellings that are refused or accepted: `redis://HOST`, `rediss://HOST`, `redis:redis://HOST`. */
const REDIS = /^rediss?:/i;

/**
 * Reads the address of `--log`; `undefined` where that names another log. The password may come from the
 * environment, because other users can read a command line.
 *
 * @throws {UsageError} for a URL that is not the address of one server, and for options that need another log.
 */
export function readRedis(
  values: RedisValues,
  { SLUICE_REDIS_PASSWORD }: Readonly<Record<string, string | undefined>>,
): RedisAddress | undefined {
  const { log = '' } = values;
  if (REDIS.test(log)) return addressOf(log, SLUICE_REDIS_PASSWORD);
  for (const name of ['log-name', 'log-lineage', 'log-wait'] as const)
    if (values[name] !== undefined) throw usageError(`--${name} needs --log redis://HOST`);
  return undefined;
}

function addressOf(log: string, secret: string | undefined): RedisAddress {
  const text = log.replace(/^redis:(?=rediss?:)/i, '');
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const [, database] = /^\/?(\d*)$/.exec(url?.pathname ?? '') ?? [];
  if (!url?.hostname || database === undefined || url.search !== '' || url.hash !== '')
    throw usageError(`--log must be redis://[USER@]HOST[:PORT][/DATABASE], got "${withoutSecrets(log)}"`);
  const { protocol, hostname, host } = url;
  return {
    host: hostname.replace(/^\[(.*)\]$/, '$1'),
    port: Number(url.port || 6379),
    isTls: protocol === 'rediss:',
    username: decoded(url.username),
    password: decoded(url.password) ?? (secret || undefined),
    database: Number(database),
    shown: `${protocol}//${host}${database && `/${database}`}`,
  };
}

/** Who writes a URL wrongly may still have written a password. */
function withoutSecrets(text: string): string {
  return text.replace(/^(\w+:(?:\/\/)?).*@/s, '$1').replace(/[?#].*/s, '?…');
}

function decoded(part: string): string | undefined {
  try {
    return part === '' ? undefined : decodeURIComponent(part);
  } catch {
    return part;
  }
}

/**
 * Makes a client of the package `redis` or `ioredis`, whichever is installed where the command runs or beside sluice.
 * It is not connected.
 */
export async function createRedisClient(
  address: RedisAddress,
  folder: string = process.cwd(),
): Promise<unknown> {
  const places = [createRequire(join(folder, 'package.json')), createRequire(import.meta.url)];
  for (const [name, create] of Object.entries(CLIENTS))
    for (const { resolve } of places) {
      const path = resolved(resolve, name);
      if (path !== undefined) return create((await import(pathToFileURL(path).href)) as never, address);
    }
  throw new Error(`--log ${address.shown} needs a client: run "npm install redis" here (or "ioredis")`);
}

function resolved(resolve: NodeJS.RequireResolve, name: string): string | undefined {
  try {
    return resolve(name);
  } catch {
    return undefined;
  }
}

type Logger = (line: LogLine) => void;

/** The members of the packages that are used. The first that is installed is taken. */
interface RedisPackage {
  createClient(options: object): unknown;
}
interface IoredisPackage {
  readonly Redis: new (options: object) => unknown;
}

const CLIENTS: Readonly<Record<string, (module: never, address: RedisAddress) => unknown>> = {
  redis: ({ createClient }: RedisPackage, { host, port, isTls, username, password, database }) =>
    createClient({
      socket: { host, port, ...(isTls && { tls: true, ...serverName(host) }) },
      ...given({ username, password, database }),
    }),
  ioredis: ({ Redis }: IoredisPackage, { host, port, isTls, username, password, database }) =>
    new Redis({
      ...{ host, port, lazyConnect: true },
      ...given({ tls: isTls ? serverName(host) : undefined, username, password, db: database }),
    }),
};

/** The name for SNI, which `node:tls` does not derive from the host. */
function serverName(host: string): object {
  return isIP(host) === 0 ? { servername: host } : {};
}

/** Both packages take an option that is `undefined` for one that is given. */
function given(options: Readonly<Record<string, unknown>>): object {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** Milliseconds: with the append itself, a publisher is answered within about a second. */
const WAIT_TIMEOUT = 500;

/** @throws {TypeError | RangeError} naming the option of `RedisLog` that cannot be used. */
export function openRedisLog(client: unknown, values: RedisValues): RedisLog {
  const { 'log-lineage': lineage, 'log-wait': replicas } = values;
  return new RedisLog(client, {
    name: values['log-name'],
    lineage,
    wait: replicas === undefined ? undefined : { replicas, timeout: WAIT_TIMEOUT },
    history: {
      maxEvents: values.history,
      maxBytes: values['history-bytes'],
      maxAge: values['history-age'],
    },
    maxTopics: values['max-topics'],
  });
}

/**
 * Waits until Redis has answered, or cannot be reached at present: the server then starts all the same, and follows as
 * soon as it can.
 *
 * @throws {Error} naming the address, where waiting would not help: a wrong password, another kind of server, and so on.
 */
export async function checkRedis(log: RedisLog, { shown }: RedisAddress, logger: Logger): Promise<void> {
  try {
    if (await log.verify()) return;
  } catch (error) {
    await log.close();
    throw new Error(`--log ${shown}: ${(error as Error).message}`, { cause: error });
  }
  logger({ level: 'warn', event: 'log-unreachable', log: shown });
}
