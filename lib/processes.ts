// Shares one log among the processes of a machine: its owner serves it over a Unix socket, the others follow.
// Needs `backoff.ts`, `local-socket.ts`, `log.ts`, `log-link.ts`, `log-owner.ts`, `log-peers.ts`,
// `log-wire.ts` and `semaphore.ts` beside it.

import { connect, createServer, type Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { Backoff } from './backoff.ts';
import { checkSocketPath, listenOnSocket } from './local-socket.ts';
import {
  type Appended,
  type AppendOptions,
  type ListOptions,
  type LogEntry,
  type LogIntake,
  type LogPage,
  logUnavailable,
  type NewEntry,
  type OwnLog,
  outcomeUnknown,
  type SharedLog,
  type TopicChange,
  type TopicRecord,
} from './log.ts';
import { Link } from './log-link.ts';
import type { OwnedEpoch } from './log-owner.ts';
import { type Answers, MAX_ANSWER_BYTES, MAX_ASKED, MAX_TOPICS, Peers, WIRE_VERSION } from './log-peers.ts';
import { badMessage, listOf, type Message, packNew, text, unpack, whole } from './log-wire.ts';
import { Semaphore } from './semaphore.ts';

// ── the owner ─────────────────────────────────────────────────────────────────────────────────────────────

export interface ServeLogOptions {
  /**
   * The Unix socket, at most 107 bytes (macOS: 103). Only processes of the same user may connect. The file of
   * a process that has died is replaced.
   */
  path: string;
  /** `SqliteLog`, `MemoryLog`, or another log of an own order. Nobody else may append to it. */
  log: OwnLog;
  /** Most processes that are connected; default 256. Others are cut off. */
  maxConnections?: number | undefined;
  /**
   * Most bytes of one message, such as a batch; default 8 MiB. A process holds one of each connection at
   * most.
   */
  maxMessageBytes?: number | undefined;
  /**
   * Most bytes of the newest events that are kept for the processes that follow; default 16 MiB. A process
   * that is further behind reads from the log. At least twice `maxMessageBytes`.
   */
  maxRecentBytes?: number | undefined;
  /** What else processes may ask by `ProcessesLog.ask`: a function for each name. */
  answers?: Answers | undefined;
  /** Called with what the log has thrown, and for each connection that sent something wrong. */
  onError?: ((error: unknown) => void) | undefined;
}

/** The log that a process serves. */
export interface ServedLog {
  readonly path: string;
  /** How many processes are connected. */
  readonly connections: number;
  /**
   * By how many events the slowest process is behind, without those that stand still: for sources that can
   * wait.
   */
  readonly lag: number;
  /** Why the log takes no events at present: it is tried again after 100 ms, and then at up to a second. */
  readonly failure: Error | undefined;
  /** Takes a connection that came by another way than the socket. */
  accept(stream: Duplex): void;
  /** Hands over what waits, cuts the connections, removes the socket and closes the log. */
  close(): Promise<void>;
}

/**
 * Gives the order of a log to other processes of this machine: each has a hub with a `ProcessesLog` of the
 * same path. Resolves once they can connect.
 *
 * Do not give the log to a hub as well, in any process. Where the owner publishes too, let it have a hub with
 * a `ProcessesLog`.
 *
 * @throws {TypeError | RangeError} naming the option that cannot be used.
 * @throws {Error} code `ERR_SSE_SOCKET_IN_USE`: another process listens at the path, or it is something else.
 */
export async function serveLog(options: ServeLogOptions): Promise<ServedLog> {
  const { path, log, maxConnections = 256, answers = {}, onError = () => {} } = options;
  const { maxMessageBytes = 8 * 1024 * 1024, maxRecentBytes = 16 * 1024 * 1024 } = options;
  checkSocketPath(path);
  checkNumber('maxConnections', maxConnections, 1);
  checkNumber('maxMessageBytes', maxMessageBytes, MIN_MESSAGE_BYTES);
  checkNumber('maxRecentBytes', maxRecentBytes, 2 * maxMessageBytes);
  const server = createServer();
  server.maxConnections = maxConnections;
  const peers = new Peers(log, { maxMessageBytes, maxRecentBytes, answers, onError });
  server.on('connection', (socket) => peers.accept(socket));
  await listenOnSocket(server, path);
  server.on('error', onError);
  return {
    path,
    get connections() {
      return peers.size;
    },
    get lag() {
      return peers.lag;
    },
    get failure() {
      return peers.owner.failure;
    },
    accept: (stream) => peers.accept(stream),
    close: async () => {
      const closed = closeServer(server);
      await peers.close();
      await closed;
      log.close?.();
    },
  };
}

/** Answers with a page of the log, and lists of topics, must fit. */
const MIN_MESSAGE_BYTES = 1024 * 1024;
/** Of two times that are added up for one timer, which takes 2³¹ − 1 ms. */
const MAX_WAIT = 2 ** 30 - 1;

/** The server removes the file of the socket. */
function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}

// ── those who follow ──────────────────────────────────────────────────────────────────────────────────────

export interface ProcessesLogOptions {
  /** The Unix socket of the owner. */
  path: string;
  /** Milliseconds for an answer; default 5,000. After that, the outcome of an append is unknown. */
  requestTimeout?: number | undefined;
  /** Milliseconds after which the owner says that it has nothing new; default 5,000. */
  checkInterval?: number | undefined;
  /** Most bytes of one message; default 8 MiB. Give the owner the same number. */
  maxMessageBytes?: number | undefined;
  /**
   * Most bytes that appends and changes hold while they wait for an answer; default 64 MiB. Above that, they are
   * refused at once.
   */
  maxWaitingBytes?: number | undefined;
  /** Milliseconds: the shortest wait before the next attempt to connect; default 50. */
  minRetryDelay?: number | undefined;
  /** Milliseconds: the longest such wait; default 1,000. */
  maxRetryDelay?: number | undefined;
  /** Makes a connection to the owner; default over the Unix socket. */
  connect?: (() => Duplex) | undefined;
}

type Settings = {
  readonly [Name in keyof Omit<ProcessesLogOptions, 'path'>]-?: NonNullable<ProcessesLogOptions[Name]>;
};

interface Place {
  readonly epoch: number;
  readonly seq: number;
}

/** Who waits until the intake has what is at a place; called with an error where that never comes. */
interface Reader {
  readonly place: Place;
  readonly done: (error?: Error) => void;
}

/**
 * The log of a hub that follows the owner: `new Hub({ log: new ProcessesLog({ path }) })`.
 *
 * While the owner cannot be reached, the hub keeps its streams open and refuses events at once, and this
 * connects again. An owner that has started again with a new epoch costs each stream one gap,
 * `store-changed`.
 */
export class ProcessesLog implements SharedLog {
  readonly order = 'shared';
  readonly path: string;
  readonly #options: Settings;
  readonly #lookups: Semaphore;
  readonly #backoff: Backoff;
  readonly #readers = new Set<Reader>();
  #link: Link | undefined;
  /** Up to where the intake was told. */
  #told: Place = { epoch: 0, seq: 0 };
  /** When the intake was last told of all that the owner had. */
  #completeAt: number = performance.now();
  #waitingBytes = 0;
  /** Why the owner's log takes no events. */
  #failure: Error | undefined;
  #connection: Link | undefined;
  #isAway = false;
  #isClosed = false;
  #endRetry = (): void => {};

  /** @throws {TypeError | RangeError} naming the option that cannot be used. */
  constructor(options: ProcessesLogOptions) {
    const { path, requestTimeout = 5000, checkInterval = 5000 } = options;
    const { maxMessageBytes = 8 * 1024 * 1024, maxWaitingBytes = 64 * 1024 * 1024 } = options;
    const { minRetryDelay = 50, maxRetryDelay = 1000 } = options;
    this.path = checkSocketPath(path);
    checkNumber('requestTimeout', requestTimeout, 1, MAX_WAIT);
    checkNumber('checkInterval', checkInterval, 1, MAX_WAIT);
    checkNumber('maxMessageBytes', maxMessageBytes, MIN_MESSAGE_BYTES);
    checkNumber('maxWaitingBytes', maxWaitingBytes, 1);
    this.#options = {
      ...{ requestTimeout, checkInterval, maxMessageBytes, maxWaitingBytes, minRetryDelay, maxRetryDelay },
      connect: options.connect ?? (() => connect(path)),
    };
    this.#backoff = new Backoff({
      minRetryDelay,
      backoffDelay: Math.max(1, minRetryDelay),
      maxBackoffDelay: Math.max(0, maxRetryDelay - minRetryDelay),
    });
    this.#lookups = new Semaphore(MAX_ASKED / 2, { maxWaiting: MAX_LOOKUPS, waitTimeout: requestTimeout });
  }

  /** Whether the owner can be reached. */
  get connected(): boolean {
    return this.#link !== undefined;
  }

  /** Why the owner takes no events at present, as it has said: it can be read. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Milliseconds since the intake was last told of all that the owner had. Grows while there is nothing new. */
  get lag(): number {
    return performance.now() - this.#completeAt;
  }

  follow(intake: LogIntake): void {
    void this.#run(intake);
  }

  async append(topic: string, events: readonly NewEntry[], options: AppendOptions = {}): Promise<Appended> {
    const { items, parts, bytes } = packNew(events);
    const { idempotency, behind } = options;
    const ask = { ask: 'append', topic, items, ...idempotency, behind };
    const { head } = await this.#write(ask, parts, bytes, heldBytes(events, options));
    const answer = { epoch: whole(head.epoch, 1), first: whole(head.first, 0), count: whole(head.count, 0) };
    await this.#accepted({ epoch: answer.epoch, seq: answer.first + answer.count - 1 });
    return answer;
  }

  async change(topic: string, change: TopicChange): Promise<boolean> {
    const { epoch } = this.#told;
    const { seq } = (await this.#write({ ask: 'change', topic, change }, [], 0, WRITE_BYTES)).head;
    if (seq === null) return false;
    await this.#accepted({ epoch, seq: whole(seq, 0) });
    return true;
  }

  async read(
    topics: readonly string[],
    after: number,
    maxBytes: number,
    { newestOnly }: { readonly newestOnly: boolean },
  ): Promise<LogPage> {
    const most = Math.floor(Math.min(maxBytes, MAX_ANSWER_BYTES));
    const { head, bytes } = await this.#lookUp({ ask: 'read', topics, after, maxBytes: most, newestOnly });
    const { until, dropped, truncated } = head as unknown as LogPage;
    return { entries: unpack(head.items, bytes) as LogEntry[], until, dropped, truncated };
  }

  async find(topics: readonly string[]): Promise<readonly TopicRecord[]> {
    const records: TopicRecord[] = [];
    for (let i = 0; i < topics.length; i += MAX_TOPICS) {
      records.push(...(await this.#records({ ask: 'find', topics: topics.slice(i, i + MAX_TOPICS) })));
    }
    return records;
  }

  async list({ after = '', limit = Infinity }: ListOptions = {}): Promise<readonly TopicRecord[]> {
    const records: TopicRecord[] = [];
    while (records.length < limit) {
      const from = records.at(-1)?.topic ?? after;
      const most = Math.min(MAX_TOPICS, limit - records.length);
      const page = await this.#records({ ask: 'list', after: from, limit: most });
      records.push(...page);
      if (page.length < most) break;
    }
    return records;
  }

  async beforeNewest(topics: readonly string[], count: number): Promise<number> {
    const most = Math.min(count, Number.MAX_SAFE_INTEGER);
    return whole((await this.#lookUp({ ask: 'before', topics, count: most })).head.seq, 0);
  }

  /** Asks the process of the owner for something else: see `answers` of `serveLog`. Values are JSON. */
  async ask(name: string, value: unknown): Promise<unknown> {
    return (await this.#lookUp({ ask: name, value })).head.value;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#endRetry();
    this.#connection?.close(new Error('the log was closed'));
    for (const { done } of this.#readers)
      done(outcomeUnknown('the log was closed before the events arrived'));
    this.#readers.clear();
  }

  async #records(head: object): Promise<readonly TopicRecord[]> {
    return listOf((await this.#lookUp(head)).head.records) as readonly TopicRecord[];
  }

  // ── asking ───────────────────────────────────────────────────────────────────────────────────────────────

  get #open(): Link {
    if (this.#link !== undefined && !this.#isClosed) return this.#link;
    throw logUnavailable(`the owner of the log cannot be reached at ${this.path}`);
  }

  /** What is sent may happen, also where no answer comes. */
  async #write(head: object, parts: readonly Uint8Array[], bytes: number, held: number): Promise<Message> {
    const link = this.#open;
    const { maxWaitingBytes, maxMessageBytes, requestTimeout } = this.#options;
    if (bytes > maxMessageBytes - HEAD_ROOM) throw tooLarge(bytes, maxMessageBytes - HEAD_ROOM);
    if (this.#waitingBytes > 0 && this.#waitingBytes + held > maxWaitingBytes)
      throw logUnavailable('the owner of the log is slow: too many bytes wait for its answer');
    this.#waitingBytes += held;
    try {
      return checked(
        await link.ask(head, parts, requestTimeout).catch((error: Error) => {
          throw outcomeUnknown(`the owner of the log gave no answer: ${error.message}`, error);
        }),
      );
    } finally {
      this.#waitingBytes -= held;
    }
  }

  /**
   * Asks the owner that is connected now: after it has begun another epoch, the question would mean something
   * else.
   */
  async #lookUp(head: object): Promise<Message> {
    const link = this.#open;
    const permit = await this.#lookups.acquire().catch((error: Error) => {
      throw logUnavailable('too many questions wait for the owner of the log', error);
    });
    // Held until the owner has answered, also too late: it cuts off who asks for more at a time than it allows.
    const release = (): void => permit.release();
    return checked(
      await link.ask(head, [], this.#options.requestTimeout, release).catch((error: Error) => {
        throw logUnavailable(`the owner of the log gave no answer: ${error.message}`, error);
      }),
    );
  }

  /** Resolves once the intake has what is at a place. */
  #accepted(place: Place): Promise<void> {
    if (!isAfter(place, this.#told)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#readers.delete(reader);
        reject(outcomeUnknown('the events are in the log, and did not arrive in time'));
      }, this.#options.requestTimeout);
      const done = (error?: Error): void => {
        clearTimeout(timer);
        if (error === undefined) resolve();
        else reject(error);
      };
      const reader = { place, done };
      this.#readers.add(reader);
    });
  }

  #move(place: Place): void {
    this.#told = place;
    for (const reader of this.#readers) {
      if (isAfter(reader.place, place)) continue;
      this.#readers.delete(reader);
      reader.done();
    }
  }

  // ── following ────────────────────────────────────────────────────────────────────────────────────────────

  async #run(intake: LogIntake): Promise<void> {
    while (!this.#isClosed) {
      const since = performance.now();
      try {
        await this.#followOnce(intake);
      } catch (error) {
        if (this.#isClosed) return;
        this.#isAway = true;
        intake.away(error);
      }
      this.#backoff.connectionEnded({
        age: performance.now() - since,
        hasDelivered: false,
        isOrderly: false,
      });
      await this.#pause();
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.#backoff.nextDelay());
      this.#endRetry = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Connects, and follows until the connection ends. Always rejects. */
  async #followOnce(intake: LogIntake): Promise<never> {
    const { requestTimeout, checkInterval, maxMessageBytes } = this.#options;
    const link = new Link(this.#options.connect(), {
      maxMessageBytes,
      onClose: () => {
        if (this.#link === link) this.#lost(intake);
      },
    });
    this.#connection = link;
    try {
      const { head } = checked(await link.ask({ ask: 'hello', version: WIRE_VERSION }, [], requestTimeout));
      if (this.#isClosed) throw new Error('the log was closed');
      this.#link = link;
      this.#learnFailure(head);
      this.#begin(intake, listOf(head.epochs) as readonly OwnedEpoch[], whole(head.head, 0));
      this.#complete(head);
      for (;;) {
        const ask = { ask: 'follow', after: this.#told.seq, timeout: Math.ceil(checkInterval) };
        const answer = checked(await link.ask(ask, [], checkInterval + requestTimeout));
        if (this.#isClosed) throw new Error('the log was closed');
        this.#learnFailure(answer.head);
        this.#take(intake, answer);
        this.#complete(answer.head);
      }
    } finally {
      link.close();
    }
  }

  #learnFailure({ failure }: Message['head']): void {
    this.#failure = failure === undefined ? undefined : logUnavailable(text(failure));
  }

  #complete({ head }: Message['head']): void {
    if (this.#told.seq >= whole(head, 0)) this.#completeAt = performance.now();
  }

  /** The hub learns of it at once, before those who wait for an answer. */
  #lost(intake: LogIntake): void {
    this.#link = undefined;
    if (this.#isClosed || this.#isAway) return;
    this.#isAway = true;
    intake.away(logUnavailable(`the owner of the log cannot be reached at ${this.path}`));
  }

  /** Tells where the order is, or how it has gone on since. */
  #begin(intake: LogIntake, epochs: readonly OwnedEpoch[], head: number): void {
    const present = epochs.at(-1);
    if (present === undefined) throw badMessage('the owner has no epoch');
    const { epoch, seq } = this.#told;
    if (epoch === present.epoch && seq > head)
      throw new Error(
        `the log of the owner has lost its newest events, from ${head} to ${seq}, in one epoch`,
      );
    if (this.#isAway) {
      this.#isAway = false;
      intake.back();
    }
    if (epoch === 0) this.#renew(intake, epochs, 0);
    else if (epoch !== present.epoch) this.#renew(intake, ...this.#since(intake, epochs));
    if (epoch === 0 && head > 0) {
      intake.skip(head);
      this.#move({ epoch: present.epoch, seq: head });
    }
  }

  /** The epochs that followed the one of which the intake was told, and what was kept of that. */
  #since(intake: LogIntake, epochs: readonly OwnedEpoch[]): [readonly OwnedEpoch[], number] {
    const at = epochs.findIndex(({ epoch }) => epoch === this.#told.epoch);
    const end = epochs[at]?.end ?? 0;
    if (end > this.#told.seq) intake.skip(end);
    return [at === -1 ? epochs.slice(-1) : epochs.slice(at + 1), end];
  }

  #renew(intake: LogIntake, epochs: readonly OwnedEpoch[], oldEnd: number): void {
    let before = oldEnd;
    for (const { epoch, end } of epochs) {
      intake.renew(epoch, before);
      if (end !== undefined && end > 0) intake.skip(end);
      before = end ?? 0;
    }
    this.#move({ epoch: epochs.at(-1)!.epoch, seq: 0 });
  }

  #take(intake: LogIntake, { head, bytes }: Message): void {
    const { epoch } = this.#told;
    let { seq } = this.#told;
    const entries = unpack(head.items, bytes);
    for (let i = 0; i < entries.length; ) {
      if (entries[i]!.seq > seq + 1) intake.skip(entries[i]!.seq - 1);
      let end = i + 1;
      while (end < entries.length && entries[end]!.seq === entries[end - 1]!.seq + 1) end++;
      intake.accept(entries.slice(i, end));
      seq = entries[end - 1]!.seq;
      i = end;
    }
    const upTo = whole(head.upTo, 0);
    if (upTo > seq) intake.skip(upTo);
    this.#move({ epoch, seq: Math.max(seq, upTo) });
  }
}

/** Callers that wait to ask. */
const MAX_LOOKUPS = 10_000;

// Measured: what an append or a change holds until its answer, and each event besides twice its frame.
const WRITE_BYTES = 3600;
const EVENT_BYTES = 400;
/** Measured: what a character of a key holds, in the message and as it was given. */
const CHARACTER_BYTES = 4;

function heldBytes(events: readonly NewEntry[], { idempotency, behind = '' }: AppendOptions): number {
  const { key: name = '', digest = '' } = idempotency ?? {};
  const texts = CHARACTER_BYTES * (name.length + digest.length + behind.length);
  const bytesOf = ({ frame, key = '' }: NewEntry): number =>
    EVENT_BYTES + 2 * frame.length + CHARACTER_BYTES * key.length;
  return events.reduce((sum, event) => sum + bytesOf(event), WRITE_BYTES + texts);
}

/** What the head of a message may need beside its events. */
const HEAD_ROOM = 64 * 1024;

/** @throws the error of the owner. */
function checked(answer: Message): Message {
  const { error } = answer.head;
  if (error === undefined) return answer;
  const { code, status, message } = Object(error) as Record<string, unknown>;
  const given = new Error(String(message));
  throw Object.assign(given, code !== undefined && { code }, status !== undefined && { status });
}

function isAfter(one: Place, other: Place): boolean {
  return one.epoch > other.epoch || (one.epoch === other.epoch && one.seq > other.seq);
}

function tooLarge(bytes: number, maxBytes: number): Error {
  const message = `a batch for the owner of the log must have at most ${maxBytes} bytes, got ${bytes}: split it`;
  return Object.assign(new RangeError(message), { code: 'ERR_SSE_BATCH_TOO_LARGE', status: 413, maxBytes });
}

function checkNumber(name: string, value: number, least: number, most: number = Infinity): void {
  if (typeof value === 'number' && value >= least && value <= most) return;
  const range = most === Infinity ? `≥ ${least}` : `from ${least} to ${most}`;
  throw new RangeError(`\`${name}\` must be a number ${range}, got ${value}`);
}
