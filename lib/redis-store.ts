// Runs the scripts of a log in Redis on a connection, and reads their answers.
// Needs `history-limits.ts`, `idempotency.ts`, `log.ts`, `redis-client.ts` and `redis-script.ts` beside it.

import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import type { Limits } from './history-limits.ts';
import { idempotencyConflict } from './idempotency.ts';
import {
  type Appended,
  type AppendOptions,
  type LogChange,
  type LogEntry,
  type LogPage,
  type NewEntry,
  outcomeUnknown,
  type TopicChange,
  type TopicRecord,
  topicEnded,
  topicMoved,
} from './log.ts';
import { type RedisConnection, type RedisReply, redisFailure } from './redis-client.ts';
import {
  appendScript,
  changeScript,
  checkScript,
  cleanScript,
  findScript,
  namesScript,
  newestScript,
  pruneScript,
  type RedisKeys,
  readScript,
  redisKeys,
  type Script,
  trialScript,
} from './redis-script.ts';

/** Why a Redis cannot be used, until somebody changes something. */
export type RedisCode =
  | 'ERR_SSE_REDIS_DENIED'
  | 'ERR_SSE_REDIS_FOREIGN'
  | 'ERR_SSE_REDIS_LINEAGE'
  | 'ERR_SSE_REDIS_NEWER'
  | 'ERR_SSE_REDIS_VERSION';

export function redisError(code: RedisCode, message: string, cause?: unknown): Error {
  return Object.assign(new Error(message, { cause }), { code });
}

export type Lineage = 'gap' | 'trust' | 'position';

/** A place in the order: `<epoch>-<seq>`. */
export interface Place {
  readonly epoch: number;
  readonly seq: number;
}

export function isAfter(one: Place, other: Place): boolean {
  return one.epoch > other.epoch || (one.epoch === other.epoch && one.seq > other.seq);
}

/** Where the order is, and the ends of the epochs before, oldest first. */
export interface OrderStatus {
  readonly head: Place;
  readonly ends: readonly Place[];
  /** How many topics are known, and how many of older epochs have left something. */
  readonly topics: number;
  readonly stale: number;
}

/** An entry of the feed: `undefined` for the beginning of an epoch, and for what is none of ours. */
export interface FeedItem {
  readonly place: Place;
  readonly entry: LogEntry | LogChange | undefined;
}

export interface StoreOptions {
  readonly name: string;
  readonly lineage: Lineage;
  readonly limitsOf: (topic: string) => Limits;
  readonly feed: { readonly maxEvents: number; readonly maxBytes: number };
  readonly idempotency: { readonly maxAge: number; readonly maxKeys: number };
}

export interface StoreAppended extends Appended {
  /** How many topics there are; 0 where it was not counted. */
  readonly topics: number;
}

/** Events of one topic, which are appended together or not at all. */
export interface Batch {
  readonly topic: string;
  readonly events: readonly NewEntry[];
  /** The id of the event behind which they are to come. */
  readonly behind?: string | undefined;
}

/** The seq of the first event of a batch and how many they are; or why it was refused. */
export type AppendedPart = { readonly first: number; readonly count: number } | Error;

/** How one node writes to a hub's keys and reads them. */
export class RedisStore {
  readonly keys: RedisKeys;
  readonly #options: StoreOptions;
  /** Names this node among those that append. */
  readonly #node: string = [0, 0, 0, 0].map(randomPart).join('');
  #counter = 0;
  /** Until a server has the text of a script. */
  readonly #loading: Map<string, Promise<void>> = new Map();

  constructor(options: StoreOptions) {
    this.#options = options;
    this.keys = redisKeys(options.name);
  }

  /** The key of the newest answers to this node. */
  get answers(): string {
    return this.keys.answers(this.#node);
  }

  /** Begins a new epoch where the order may be another one, and where it is one that cannot go on. */
  async check(
    connection: RedisConnection,
    known: Place,
    timeout: number,
    spoiled: number = 0,
  ): Promise<OrderStatus> {
    const args = [...this.#known(known), String(spoiled)];
    const answer = await this.#run(connection, checkScript, this.#orderKeys, args, timeout);
    const [epoch, head, ends, topics, stale] = accepted(answer);
    return {
      head: { epoch: Number(epoch), seq: Number(head) },
      ends: readEnds(String(ends)),
      topics: Number(topics),
      stale: Number(stale),
    };
  }

  /** Tries the commands of the scripts. @returns the one that the server refuses, and why. */
  async tryCommands(
    connection: RedisConnection,
    timeout: number,
  ): Promise<{ readonly command: string; readonly why: string } | undefined> {
    const answer = await this.#run(connection, trialScript, [this.keys.trial], [], timeout);
    const [word, command, why] = (answer as readonly RedisReply[]).map(String);
    return word === 'OK' ? undefined : { command: command!, why: why! };
  }

  /** Rejects where the topic has ended, and where the idempotency key was used for another request. */
  async append(
    connection: RedisConnection,
    known: Place,
    topic: string,
    events: readonly NewEntry[],
    options: AppendOptions,
    timeout: number,
  ): Promise<StoreAppended> {
    const batches = [{ topic, events, behind: options.behind }];
    const { epoch, topics, parts } = await this.appendAll(connection, known, batches, timeout, options);
    const [part] = parts as [AppendedPart];
    if (part instanceof Error) throw part;
    return { epoch, ...part, topics };
  }

  /** Appends to several topics, of which each may be refused. With an idempotency key, to one. */
  async appendAll(
    connection: RedisConnection,
    known: Place,
    batches: readonly Batch[],
    timeout: number,
    { idempotency }: AppendOptions = {},
  ): Promise<{ readonly epoch: number; readonly topics: number; readonly parts: readonly AppendedPart[] }> {
    const { requests, ages } = this.keys;
    const { feed, idempotency: kept } = this.#options;
    const keys = [...this.#orderKeys, this.answers, requests, ages];
    const args: (string | Uint8Array)[] = [
      ...this.#known(known),
      String(++this.#counter),
      ...[feed.maxEvents, feed.maxBytes, ANSWERS_AGE].map(whole),
      idempotency === undefined ? '' : digestOf(idempotency.key),
      idempotency === undefined ? '' : digestOf(idempotency.digest),
      ...[kept.maxAge, kept.maxKeys, batches.length].map(whole),
    ];
    for (const { topic, events, behind = '' } of batches) {
      const { maxEvents, maxBytes, maxAge } = this.#options.limitsOf(topic);
      keys.push(this.keys.history(topic), this.keys.newest(topic));
      args.push(topic, whole(maxEvents), whole(maxBytes), ageText(maxAge), behind, String(events.length));
      for (const { at, key, frame } of events) args.push(String(at), keyText(key), wordOf(frame));
    }
    const answer = await this.#run(connection, appendScript, keys, args, timeout);
    const [epoch, topics, ...results] = accepted(answer).map(String);
    const parts = pairs(results).map(([first, count], i) => {
      return count === '0'
        ? refusalOf(first, batches[i]!.topic)
        : { first: Number(first), count: Number(count) };
    });
    return { epoch: Number(epoch), topics: Number(topics), parts };
  }

  /** @returns the place of the change; `undefined` where there was nothing to change. */
  async change(
    connection: RedisConnection,
    known: Place,
    topic: string,
    change: TopicChange,
    timeout: number,
  ): Promise<Place | undefined> {
    const { feed } = this.#options;
    const numbers = [feed.maxEvents, feed.maxBytes, ANSWERS_AGE].map(whole);
    const args = [...this.#known(known), String(++this.#counter), topic, change, ...numbers];
    const answer = await this.#run(connection, changeScript, this.#topicKeys(topic), args, timeout);
    const [epoch, , seq, count] = accepted(answer).map(Number);
    return count === 0 ? undefined : { epoch: epoch!, seq: seq! };
  }

  /** What the feed has after a place, at most `count`; waits up to `block` milliseconds where there is nothing. */
  async feedAfter(
    connection: RedisConnection,
    after: Place,
    { count, block, timeout }: { count: number; block?: number; timeout: number },
  ): Promise<readonly FeedItem[]> {
    const { feed } = this.keys;
    const wait = block === undefined ? [] : ['BLOCK', whole(block)];
    const command = ['XREAD', 'COUNT', String(count), ...wait, 'STREAMS', feed, placeText(after)];
    const answer = await connection.send(command, { key: feed, timeout });
    const [stream] = (answer ?? []) as [[string, readonly RedisReply[]]?];
    return (stream?.[1] ?? []).map(readItem);
  }

  // What is looked up is `undefined` where the order is in another epoch, or what is needed was lost: also where it
  // has not come to the place that is known, as on a replica that lags.

  async read(
    connection: RedisConnection,
    known: Place,
    topics: readonly string[],
    after: number,
    { maxBytes, newestOnly, timeout }: { maxBytes: number; newestOnly: boolean; timeout: number },
  ): Promise<(LogPage & { readonly isAll: boolean }) | undefined> {
    const { meta, index, history, newest } = this.keys;
    const keys = [meta, index, ...topics.flatMap((topic) => [history(topic), newest(topic)])];
    const args = [placeText(known), whole(after), whole(maxBytes), newestOnly ? '1' : '0'];
    const answer = await this.#run(connection, readScript, keys, [...args, ...this.#aged(topics)], timeout);
    if (isChanged(answer)) return undefined;
    const [until, isAll, dropped, entries] = accepted(answer) as [string, string, string[], string[]];
    return {
      until: Number(until),
      isAll: isAll === '1',
      dropped: pairs(dropped).map(([i, seq]) => ({ topic: topics[Number(i)]!, seq: Number(seq) })),
      entries: pairs(entries).map(([i, packed]) => readPacked(topics[Number(i)]!, packed)),
    };
  }

  async find(
    connection: RedisConnection,
    known: Place,
    topics: readonly string[],
    timeout: number,
  ): Promise<readonly TopicRecord[] | undefined> {
    const args = [placeText(known), ...this.#aged(topics)];
    const answer = await this.#run(connection, findScript, this.#histories(topics), args, timeout);
    if (isChanged(answer)) return undefined;
    const found = (accepted(answer)[0] as string[]).map(Number);
    const records: TopicRecord[] = [];
    for (let i = 0; i < found.length; i += 6) {
      const [topic, last, state, dropped, events, bytes] = found.slice(i, i + 6) as [
        number,
        number,
        number,
        number,
        number,
        number,
      ];
      const deleted = state === 2 && { deleted: true };
      records.push({ topic: topics[topic]!, last, dropped, ended: state === 1, ...deleted, events, bytes });
    }
    return records;
  }

  /** The newest seqs of topics below a seq, newest first, and the head. */
  async newest(
    connection: RedisConnection,
    known: Place,
    topics: readonly string[],
    { below, count, timeout }: { below: number; count: number; timeout: number },
  ): Promise<
    { readonly head: number; readonly isAll: boolean; readonly seqs: readonly number[] } | undefined
  > {
    const args = [placeText(known), whole(below), whole(count), ...this.#aged(topics)];
    const answer = await this.#run(connection, newestScript, this.#histories(topics), args, timeout);
    if (isChanged(answer)) return undefined;
    const [head, isAll, seqs] = accepted(answer) as [string, string, string[]];
    return { head: Number(head), isAll: isAll === '1', seqs: seqs.map(Number) };
  }

  /** The names of topics after a name, deleted ones included. */
  async names(
    connection: RedisConnection,
    known: Place,
    { after, count, timeout }: { after: string; count: number; timeout: number },
  ): Promise<readonly string[] | undefined> {
    const { meta, index, names } = this.keys;
    const args = [placeText(known), after, String(count)];
    const answer = await this.#run(connection, namesScript, [meta, index, names], args, timeout);
    return isChanged(answer) ? undefined : (accepted(answer)[0] as string[]);
  }

  // ── what is done between appends ─────────────────────────────────────────────────────────────────────────

  /** Forgets some of the topics that were silent for longest. @returns how many are left. */
  async prune(
    connection: RedisConnection,
    maxTopics: number,
    surplus: number,
    timeout: number,
  ): Promise<number> {
    const { meta, index, names } = this.keys;
    const most = String(Math.min(surplus, PRUNED_AT_ONCE) - 1);
    const command = ['ZRANGE', index, '0', most, 'WITHSCORES'];
    const silent = (await connection.send(command, { key: index, timeout })) as string[];
    const topics = pairs(silent).map(([topic]) => topic);
    const keys = [meta, index, names, ...this.#removed(topics)];
    return Number(await this.#run(connection, pruneScript, keys, [String(maxTopics), ...silent], timeout));
  }

  /** Removes what some topics of older epochs have left. @returns of how many it is left. */
  async clean(connection: RedisConnection, timeout: number): Promise<number> {
    const { stale, index } = this.keys;
    const command = ['ZRANGE', stale, '0', String(PRUNED_AT_ONCE - 1)];
    const topics = (await connection.send(command, { key: stale, timeout })) as string[];
    if (topics.length === 0) return 0;
    const keys = [stale, index, ...this.#removed(topics)];
    return Number(await this.#run(connection, cleanScript, keys, topics, timeout));
  }

  #removed(topics: readonly string[]): readonly string[] {
    return topics.flatMap((topic) => [this.keys.history(topic), this.keys.newest(topic)]);
  }

  get #orderKeys(): readonly string[] {
    const { meta, feed, index, names, stale } = this.keys;
    return [meta, feed, index, names, stale];
  }

  #topicKeys(topic: string): readonly string[] {
    const { history, newest } = this.keys;
    return [...this.#orderKeys, history(topic), newest(topic), this.answers];
  }

  #histories(topics: readonly string[]): readonly string[] {
    const { meta, index, history } = this.keys;
    return [meta, index, ...topics.map(history)];
  }

  #known({ epoch, seq }: Place): readonly string[] {
    return [this.#options.lineage, String(epoch), String(seq)];
  }

  #aged(topics: readonly string[]): readonly string[] {
    return topics.flatMap((topic) => [topic, ageText(this.#options.limitsOf(topic).maxAge)]);
  }

  async #run(
    connection: RedisConnection,
    { text, sha }: Script,
    keys: readonly string[],
    args: readonly (string | Uint8Array)[],
    timeout: number,
  ): Promise<RedisReply> {
    const limit = performance.now() + timeout;
    const rest = [String(keys.length), ...keys, ...args];
    const send = (...command: readonly [name: string, script: string]): Promise<RedisReply> =>
      connection.send([...command, ...rest], {
        key: keys[0]!,
        timeout: Math.max(1, limit - performance.now()),
      });
    await this.#loading.get(sha);
    try {
      return await send('EVALSHA', sha);
    } catch (error) {
      if ((error as { reply?: unknown }).reply !== 'NOSCRIPT') throw error;
    }
    const loaded = send('EVAL', text);
    if (!this.#loading.has(sha)) this.#load(sha, loaded);
    return loaded;
  }

  /**
   * The server has not seen a script since it started. What was sent meanwhile is refused too, and sent again before
   * the answer: whoever waits for that does not overtake it.
   */
  #load(sha: string, loaded: Promise<unknown>): void {
    const done = () => void this.#loading.delete(sha);
    this.#loading.set(sha, loaded.then(done, done));
  }
}

/** Milliseconds for which the answers to a node are kept: no client sends a command again after that. */
const ANSWERS_AGE = 600_000;

/** Topics that one script removes: the server does nothing else meanwhile. */
const PRUNED_AT_ONCE = 100;

/** Clients write a command that has bytes among its words much more slowly than one of strings (bench redis). */
function wordOf(frame: Uint8Array): string | Uint8Array {
  if (frame.length > MAX_STRING_BYTES || !isUtf8(frame)) return frame;
  return Buffer.from(frame.buffer, frame.byteOffset, frame.length).toString();
}

/** What is longer goes as it is, without a copy. */
const MAX_STRING_BYTES = 4096;

/** The members of an answer after `OK`. Anything else is a refusal. */
function accepted(answer: RedisReply): readonly RedisReply[] {
  const [word, ...rest] = answer as readonly RedisReply[];
  if (word === 'OK') return rest;
  throw refusal(String(word), String(rest[0]));
}

function isChanged(answer: RedisReply): boolean {
  return (answer as readonly RedisReply[])[0] === 'CHANGED';
}

/** Why a topic was refused while others were not. */
function refusalOf(reason: string, topic: string): Error {
  if (reason === 'ENDED') return topicEnded(topic);
  if (reason === 'MOVED') return topicMoved(topic);
  return redisFailure('reply', reason, reason.split(' ', 1)[0]);
}

function refusal(word: string, detail: string): Error {
  if (word === 'CONFLICT') return idempotencyConflict();
  if (word === 'STALE') return outcomeUnknown('Redis has run this command later than 64 newer ones');
  if (word === 'NEWER')
    return redisError('ERR_SSE_REDIS_NEWER', `the keys in Redis are of a later version: format ${detail}`);
  if (word === 'LINEAGE') {
    const message = 'the `INFO` of this Redis does not tell whose data it has: set `lineage` to "position"';
    return redisError('ERR_SSE_REDIS_LINEAGE', message);
  }
  const message = 'somebody else has written to the feed of the log';
  return Object.assign(new Error(message), { kind: 'reply', reply: 'SPOILED', epoch: Number(detail) });
}

function randomPart(): string {
  return Math.floor(Math.random() * 2 ** 24).toString(36);
}

/** A limit as a script reads it, which knows no Infinity. */
function whole(limit: number): string {
  return String(Math.min(Math.ceil(limit), Number.MAX_SAFE_INTEGER));
}

function placeText({ epoch, seq }: Place): string {
  return `${epoch}-${seq}`;
}

function ageText(maxAge: number): string {
  return maxAge === Infinity ? '' : whole(maxAge);
}

/** JSON, so that it is one line of ASCII or UTF-8, whatever its characters. */
function keyText(key: string | undefined): string {
  return key === undefined ? '' : JSON.stringify(key);
}

/** A client chooses its idempotency keys: each takes as much as any other. */
function digestOf(text: string): string {
  return createHash('sha256').update(text, 'utf16le').digest('base64url');
}

function readEnds(text: string): readonly Place[] {
  return text.split(' ').flatMap((pair) => {
    const [epoch, seq] = pair.split(':').map(Number);
    return pair === '' ? [] : [{ epoch: epoch!, seq: seq! }];
  });
}

function readItem(item: RedisReply): FeedItem {
  const [id, fields] = item as [string, readonly string[]];
  const [epoch, seq] = id.split('-').map(Number) as [number, number];
  return { place: { epoch, seq }, entry: readFields(seq, fields) };
}

/** `undefined` for what no script has written. */
function readFields(seq: number, [, topic, , text]: readonly string[]): FeedItem['entry'] {
  try {
    return readFed(seq, topic!, text!);
  } catch {
    return undefined;
  }
}

/** `<bytes before> <time> <key>\n<frame>`, or `<bytes before> <change>`. */
function readFed(seq: number, topic: string, text: string): LogEntry | LogChange | undefined {
  const space = text.indexOf(' ');
  const line = text.indexOf('\n');
  if (line !== -1) return readEvent(seq, topic, text.slice(space + 1, line), text.slice(line + 1));
  const change = text.slice(space + 1);
  return CHANGES.includes(change) ? { seq, topic, change: change as TopicChange } : undefined;
}

const CHANGES: readonly string[] = ['end', 'reopen', 'delete'] satisfies TopicChange[];

/** `<seq> <prev> <time> <bytes before> <key>\n<frame>` */
function readPacked(topic: string, packed: string): LogEntry {
  const line = packed.indexOf('\n');
  const [seq, , at, , ...key] = packed.slice(0, line).split(' ');
  return readEvent(Number(seq), topic, `${at} ${key.join(' ')}`, packed.slice(line + 1));
}

function readEvent(seq: number, topic: string, head: string, frame: string): LogEntry {
  const space = head.indexOf(' ');
  const key = head.slice(space + 1);
  return {
    seq,
    topic,
    at: Number(head.slice(0, space)),
    frame: Buffer.from(frame),
    key: key === '' ? undefined : (JSON.parse(key) as string),
  };
}

function pairs(list: readonly string[]): readonly (readonly [string, string])[] {
  return Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i]!, list[2 * i + 1]!] as const);
}
