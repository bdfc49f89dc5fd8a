// Opens many connections, checks every event on each, and counts. Another process asks it over Node's IPC;
// see `Question` and `Answer`.

import http from 'node:http';
import { connect, type Socket } from 'node:net';
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { constants, createGunzip } from 'node:zlib';
import { load } from '../harness.ts';
import { Follower, now } from './texts.ts';

export type Question =
  /**
   * Opens connections, `atOnce` at a time. The first follows topic 0, the next topic 1, and so on, modulo
   * `topics`.
   */
  | ({ do: 'open' } & Opening)
  /** Resets all counters; connections stay. */
  | { do: 'reset' }
  /** `on`: reads once a millisecond, which costs a server less. The reader on Node ignores it. */
  | { do: 'calm'; on: boolean }
  /**
   * Waits until `events` events came since the reset, or none for `patience` milliseconds, 1,000 by default;
   * in a group, or in all.
   */
  | { do: 'await'; events: number; group?: string; patience?: number }
  /**
   * Answers at once. Latency is of the events since the last lap; all but bytes and latency are of the group.
   */
  | { do: 'lap'; group?: string }
  /** Closes every connection of a group, or all. */
  | { do: 'close'; group?: string }
  /** Follows a stream of Redis from its beginning, by one XREAD after another. */
  | { do: 'xread'; port: number; key: string; bytes: number }
  /** Answers with the ids of the next events on a topic, or of those after an id. */
  | { do: 'ids'; port: number; path: string; count: number; after?: string }
  /** Each of `count` clients posts and reads the answer to its end, `rounds` times. */
  | { do: 'post'; port: number; path: string; count: number; rounds: number; bytes: number };

export interface Opening {
  readonly port: number;
  readonly count: number;
  readonly topics?: number | undefined;
  /** `/events?topic=t<n>` by default; `{topic}` stands for the topic. */
  readonly path?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /**
   * What `{place}` in a header stands for: the first for the first connection, and so on, modulo their
   * number.
   */
  readonly places?: readonly string[] | undefined;
  /** Bytes of each event's data. */
  readonly bytes: number;
  readonly group?: string | undefined;
  /**
   * How the connections read: at once, never, or with one in a hundred through gunzip. Default `at-once`. In
   * the reader in C, connections that never read have the smallest receive buffer as well.
   */
  readonly reads?: 'at-once' | 'never' | 'gunzip' | undefined;
  /** How many connections are opened at a time; default 100. */
  readonly atOnce?: number | undefined;
  /** How many connections may wait for their first byte while more are opened; default no limit. */
  readonly unanswered?: number | undefined;
  /** One connection in this many measures latency; default 1, all of them. 0: none. */
  readonly sample?: number | undefined;
  /** The reader in C reads these first, so that they wait for the server only, not for other connections. */
  readonly isFirst?: boolean | undefined;
}

export interface Answer {
  /** Connections that are open, and those that were lost since the reset. */
  readonly open: number;
  readonly lost: number;
  /** Open connections that have received a byte of an answer. */
  readonly answered: number;
  /** Open connections that have received a byte since the reset, of a comment perhaps. */
  readonly heard: number;
  readonly events: number;
  readonly bytes: number;
  /** Events that did not follow the previous one. */
  readonly disorder: number;
  /** Connections without an event since the reset. */
  readonly silent: number;
  /** Latencies below zero, which would mean that the clocks disagree. */
  readonly negative: number;
  /** When the last byte came: microseconds on the shared clock. */
  readonly last: number;
  /** CPU time of this process since the reset, in µs, and the time that has passed. */
  readonly cpu: number;
  readonly elapsed: number;
  /** Milliseconds from an event's scheduled time to its arrival. */
  readonly latency: Percentiles;
  readonly ids?: readonly string[] | undefined;
}

export interface Percentiles {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

interface Connection {
  readonly group: string;
  readonly follower: Follower;
  readonly socket: { destroy(): unknown };
  isAnswered: boolean;
  isHeard: boolean;
}

const connections = new Set<Connection>();
/** Latencies since the last lap, and those before it. */
let lap: RecordableHistogram = createHistogram();
let total: RecordableHistogram = createHistogram();
let bytes = 0;
let negative = 0;
let lost = 0;
let last = 0;
let since = now();
let cpuSince = process.cpuUsage();
/** Events of closed connections. */
let gone = { events: 0, disorder: 0 };
/** The header that EventSource sends; some servers stream only then. */
const accept = { Accept: 'text/event-stream' };
/** One buffer for all connections: each consumes it before the next one reads. */
const buffer = Buffer.allocUnsafe(64 * 1024);

process.on('message', async (question: Question) => {
  process.send?.(await answer(question));
});

async function answer(question: Question): Promise<Answer> {
  if (question.do === 'open') await open(question);
  if (question.do === 'reset') reset();
  if (question.do === 'await') await untilSeen(question);
  if (question.do === 'close') close(question.group);
  if (question.do === 'post') await post(question);
  if (question.do === 'xread') void readStream(question);
  const ids = question.do === 'ids' ? await idsOf(question) : undefined;
  const group = question.do === 'await' || question.do === 'lap' ? question.group : undefined;
  const latest = percentiles(lap);
  total.add(lap);
  lap = createHistogram();
  return { ...counted(group), latency: question.do === 'lap' ? latest : percentiles(total), ids };
}

async function open(opening: Opening): Promise<void> {
  const { count, unanswered = Infinity, atOnce = Math.min(100, unanswered) } = opening;
  for (let begun = 0; begun < count; begun += atOnce) {
    const some = Math.min(atOnce, count - begun);
    while (waiting() + some > unanswered) await sleep(1);
    await Promise.all(Array.from({ length: some }, (_, i) => openOne(opening, begun + i)));
  }
}

function waiting(): number {
  let count = 0;
  for (const { isAnswered } of connections) if (!isAnswered) count++;
  return count;
}

function openOne(opening: Opening, i: number): Promise<void> {
  const { topics = 1, path = '/events?topic={topic}', reads = 'at-once', group = '', sample = 1 } = opening;
  const { places = [], headers } = opening;
  const target = path.replace('{topic}', `t${i % topics}`);
  const follower = new Follower(opening.bytes, sample > 0 && i % sample === 0 ? measure : undefined);
  if (reads === 'gunzip' && i % 100 === 0) return openInflated(opening, target, follower);
  const head = `GET ${target} HTTP/1.1\r\nHost: 127.0.0.1:${opening.port}\r\n`;
  const place = places[i % places.length] ?? '';
  const request = `${head}${headerLines({ ...accept, ...headers }).replace('{place}', place)}\r\n`;
  return new Promise((resolve) => {
    const take = (length: number, chunk: Uint8Array): boolean => {
      connection.isAnswered = connection.isHeard = true;
      bytes += length;
      last = now();
      // Compressed bytes are counted; only one connection in a hundred is checked.
      if (reads === 'at-once') follower.feed(chunk, length);
      return true;
    };
    const onread = { buffer, callback: take };
    const socket: Socket = connect({
      port: opening.port,
      host: '127.0.0.1',
      ...(reads === 'never' ? {} : { onread }),
    });
    const connection: Connection = { group, follower, socket, isAnswered: false, isHeard: false };
    connections.add(connection);
    socket.on('connect', () => {
      socket.write(request);
      resolve();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      forget(connection);
      resolve();
    });
  });
}

function openInflated(opening: Opening, path: string, follower: Follower): Promise<void> {
  return new Promise((resolve) => {
    const { port, group = '' } = opening;
    const headers = { ...accept, ...opening.headers };
    const request = http.get({ port, host: '127.0.0.1', path, headers, agent: false }, (response) => {
      const inflated = createGunzip({ flush: constants.Z_SYNC_FLUSH });
      connection.isAnswered = true;
      response.on('data', (chunk: Buffer) => {
        connection.isHeard = true;
        bytes += chunk.length;
        last = now();
      });
      response.pipe(inflated).on('data', (chunk: Buffer) => follower.feed(chunk));
      inflated.on('error', () => response.destroy());
    });
    const connection: Connection = { group, follower, socket: request, isAnswered: false, isHeard: false };
    connections.add(connection);
    // Some servers send the head only with the first event.
    request.on('finish', resolve);
    request.on('error', () => {});
    request.on('close', () => forget(connection));
  });
}

type StreamReply = readonly [key: string, entries: readonly [id: string, fields: readonly string[]][]][];

interface StreamClient {
  xread(...words: readonly (string | number)[]): Promise<StreamReply | null>;
  disconnect(): void;
}

async function readStream({ port, key, bytes: size }: Question & { do: 'xread' }): Promise<void> {
  const { Redis } = await load<{ Redis: new (port: number) => StreamClient }>('ioredis');
  const client = new Redis(port);
  const follower = new Follower(size, measure);
  const socket = { destroy: () => client.disconnect() };
  connections.add({ group: '', follower, socket, isAnswered: true, isHeard: true });
  for (let id = '0'; ; ) {
    const [stream] = (await client.xread('COUNT', 1000, 'BLOCK', 0, 'STREAMS', key, id)) ?? [];
    for (const [at, [, text = '']] of stream?.[1] ?? []) {
      id = at;
      bytes += text.length;
      last = now();
      follower.feed(Buffer.from(text));
    }
  }
}

function forget(connection: Connection): void {
  if (!connections.delete(connection)) return;
  lost++;
  gone = {
    events: gone.events + connection.follower.events,
    disorder: gone.disorder + connection.follower.disorder,
  };
}

function headerLines(headers: Readonly<Record<string, string>> = {}): string {
  return Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('');
}

function measure(time: number): void {
  const microseconds = Math.round(now() - time);
  if (microseconds < 0) negative++;
  lap.record(Math.max(1, microseconds));
}

function reset(): void {
  lap = createHistogram();
  total = createHistogram();
  bytes = negative = lost = 0;
  gone = { events: 0, disorder: 0 };
  for (const connection of connections) {
    connection.follower.events = connection.follower.disorder = 0;
    connection.isHeard = false;
  }
  since = now();
  cpuSince = process.cpuUsage();
}

async function untilSeen({ events, group, patience = 1000 }: Question & { do: 'await' }): Promise<void> {
  for (let before = -1; ; ) {
    const seen = counted(group).events;
    if (seen >= events || (seen === before && now() - last > patience * 1000)) return;
    before = seen;
    await sleep(50);
  }
}

function close(group?: string): void {
  for (const connection of [...connections]) {
    if (group !== undefined && connection.group !== group) continue;
    connections.delete(connection);
    connection.socket.destroy();
  }
}

/** Follows a topic until so many events have come, and closes the connection. */
function idsOf({ port, path, count, after }: Question & { do: 'ids' }): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const headers = { ...accept, ...(after !== undefined && { 'Last-Event-ID': after }) };
    const request = http.get({ port, host: '127.0.0.1', path, headers, agent: false }, (response) => {
      const ids: string[] = [];
      let rest = '';
      response.setEncoding('latin1').on('data', (chunk: string) => {
        const blocks = (rest + chunk).split('\n\n');
        rest = blocks.pop()!;
        for (const block of blocks.filter((one) => one.includes('@'))) {
          const id = /^id: ?(.*)$/m.exec(block)?.[1];
          if (id !== undefined) ids.push(id);
        }
        if (ids.length < count) return;
        request.destroy();
        resolve(ids.slice(0, count));
      });
    });
    request.on('error', reject);
  });
}

/** Each of `count` clients posts `rounds` times, on a new connection each time. */
async function post({ port, path, count, rounds, bytes: size }: Question & { do: 'post' }): Promise<void> {
  await Promise.all(
    Array.from({ length: count }, async () => {
      for (let round = 0; round < rounds; round++) await postOne(port, path, size);
    }),
  );
}

/**
 * Reads to the last chunk or the end. Uses a socket, because Node's HTTP client would be slower than the
 * servers.
 */
function postOne(port: number, path: string, size: number): Promise<void> {
  const follower = new Follower(size, measure);
  return new Promise((resolve) => {
    const take = (length: number, chunk: Uint8Array): boolean => {
      bytes += length;
      last = now();
      follower.feed(chunk, length);
      // Some servers keep the connection open although the request says `Connection: close`.
      if (buffer.subarray(Math.max(0, length - LAST_CHUNK.length), length).equals(LAST_CHUNK))
        socket.destroy();
      return true;
    };
    const socket = connect({ port, host: '127.0.0.1', onread: { buffer, callback: take } });
    socket.on('connect', () => socket.write(postOf(port, path)));
    socket.on('error', () => {});
    socket.on('close', () => {
      gone = { events: gone.events + follower.events, disorder: gone.disorder + follower.disorder };
      resolve();
    });
  });
}

const LAST_CHUNK = Buffer.from('0\r\n\r\n');

function postOf(port: number, path: string): string {
  const head = `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: close\r\n${headerLines(accept)}`;
  return `${head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`;
}

function counted(group?: string): Omit<Answer, 'latency'> {
  let { events, disorder } = group === undefined ? gone : { events: 0, disorder: 0 };
  let [open, silent, answered, heard] = [0, 0, 0, 0];
  for (const connection of connections) {
    if (group !== undefined && connection.group !== group) continue;
    const { follower } = connection;
    open++;
    if (connection.isAnswered) answered++;
    if (connection.isHeard) heard++;
    if (follower.events === 0) silent++;
    events += follower.events;
    disorder += follower.disorder;
  }
  const { user, system } = process.cpuUsage(cpuSince);
  return {
    open,
    lost,
    answered,
    heard,
    events,
    bytes,
    disorder,
    silent,
    negative,
    last,
    cpu: user + system,
    elapsed: now() - since,
  };
}

function percentiles(histogram: RecordableHistogram): Percentiles {
  const { count, mean, max } = histogram;
  const at = (percent: number): number => (count === 0 ? 0 : histogram.percentile(percent) / 1000);
  return {
    count,
    mean: count === 0 ? 0 : mean / 1000,
    p50: at(50),
    p90: at(90),
    p99: at(99),
    p999: at(99.9),
    max: count === 0 ? 0 : max / 1000,
  };
}
