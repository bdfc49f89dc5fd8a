// A client of the model of Redis, with the members of `ioredis` that a log in Redis uses.

import { AsyncResource } from 'node:async_hooks';
import { EventEmitter } from 'node:events';
import { Failure, type Reply, Status } from './reply.ts';
import type { Server, Waiter } from './server.ts';
import type { Reading } from './streams.ts';

export type Direction = 'request' | 'answer' | 'connect';
export type Fate = 'done' | 'lost' | 'unanswered';

/** What happens on the way between a node and its server. */
export interface Way {
  /** Milliseconds; requests and answers of one connection stay in order. Or `undefined`: a turn for promises. */
  delay(direction: Direction): number | undefined;
  /** Whether a command arrives, and its answer. Where not, nothing more passes that way: the connection is stuck. */
  fate(command: readonly string[]): Fate;
  /** Milliseconds after which a connection that is stuck breaks. */
  stuckTime(): number;
  /** Whether one that waits for a stream is woken. */
  wakes(): boolean;
  /** Runs what happens in the server or on the way, apart from the node. */
  outside<T>(act: () => T): T;
}

/** Where a client finds its server. */
export interface Place {
  readonly way: Way;
  /** `undefined` where none can be reached. */
  server(): Server | undefined;
  readonly sessions: Set<Session>;
}

type Settings = Readonly<Record<string, unknown>>;

/** Such as `new Redis(port, host, { lazyConnect: true })`: it connects when asked, and its duplicates at once. */
export class ModelClient {
  status = 'wait';
  readonly options: Settings;
  readonly #place: Place;
  readonly #events: EventEmitter = new EventEmitter();
  // What happens to a client happens in the process that has made it.
  readonly #inside: <T>(act: () => T) => T = AsyncResource.bind(<T>(act: () => T): T => act());
  #session: Session | undefined;
  #attempts = 0;
  #isOver = false;

  constructor(place: Place, options: Settings = { lazyConnect: true }) {
    this.#place = place;
    this.options = options;
    if (options.lazyConnect !== true) this.connect().catch(() => {});
  }

  duplicate(options: Settings = {}): ModelClient {
    return new ModelClient(this.#place, { ...this.options, ...options });
  }

  on(event: string, listener: (...values: never[]) => void): this {
    this.#events.on(event, listener as () => void);
    return this;
  }

  off(event: string, listener: (...values: never[]) => void): this {
    this.#events.off(event, listener as () => void);
    return this;
  }

  /** Resolves once it is ready. */
  connect(): Promise<void> {
    this.status = 'connecting';
    return new Promise((resolve, reject) => {
      arriveIn(this.#place.way, 'connect', () => this.#inside(() => this.#open(resolve, reject)));
    });
  }

  call(name: string, ...args: readonly (string | Uint8Array)[]): Promise<unknown> {
    if (this.status !== 'ready')
      return Promise.reject(new Error("Stream isn't writeable and enableOfflineQueue options is false"));
    return this.#session!.send([name, ...args].map(bytesOf));
  }

  disconnect(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const session = this.#session;
    if (session !== undefined) session.close();
    else this.#end();
  }

  #open(resolve: () => void, reject: (error: Error) => void): void {
    const server = this.#place.server();
    if (this.#isOver || this.status !== 'connecting') return reject(new Error('Connection is closed.'));
    if (server === undefined || server.isDown || server.isLoading) {
      const error = Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:6379'), { code: 'ECONNREFUSED' });
      this.#emit('error', error);
      reject(error);
      return this.#closed();
    }
    this.#session = new Session(server, this.#place, () => this.#inside(() => this.#closed()));
    this.#attempts = 0;
    this.status = 'ready';
    this.#emit('ready');
    resolve();
  }

  #closed(): void {
    this.#session = undefined;
    this.status = 'close';
    this.#emit('close');
    const { retryStrategy } = this.options;
    if (this.#isOver || typeof retryStrategy !== 'function') return this.#end();
    this.status = 'reconnecting';
    const delay = Number((retryStrategy as (times: number) => unknown)(++this.#attempts));
    setTimeout(() => {
      if (!this.#isOver) this.connect().catch(() => {});
    }, delay);
  }

  #end(): void {
    this.#isOver = true;
    this.status = 'end';
    this.#emit('end');
  }

  #emit(event: string, ...values: unknown[]): void {
    if (event !== 'error' || this.#events.listenerCount('error') > 0) this.#events.emit(event, ...values);
  }
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** One connection, from its beginning to its end. */
export class Session {
  readonly #server: Server;
  readonly #place: Place;
  readonly #onClose: () => void;
  /** What waits for an answer, in order. */
  readonly #pending: Pending[] = [];
  /** What has arrived while the connection waits for a stream. */
  readonly #arrived: (readonly string[])[] = [];
  readonly #due: Map<string, number> = new Map();
  #waiter: (Waiter & { readonly timer: NodeJS.Timeout | undefined }) | undefined;
  #losesRequests = false;
  #losesAnswers = false;
  #isOver = false;

  constructor(server: Server, place: Place, onClose: () => void) {
    this.#server = server;
    this.#place = place;
    this.#onClose = onClose;
    place.sessions.add(this);
  }

  send(command: readonly string[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#pending.push({ resolve, reject });
      const fate = this.#place.way.fate(command);
      if (fate !== 'done') this.#breakLater();
      if (fate === 'lost') this.#losesRequests = true;
      if (this.#losesRequests) return;
      this.#travel('request', () => {
        if (fate === 'unanswered') this.#losesAnswers = true;
        this.#arrive(command);
      });
    });
  }

  #breakLater(): void {
    const { way } = this.#place;
    way.outside(() => setTimeout(() => this.close(), way.stuckTime()));
  }

  /** Both ends learn of it at once. What was sent and not answered may have been run. */
  close(): void {
    if (!this.vanish()) return;
    for (const { reject } of this.#pending.splice(0)) reject(new Error('Connection is closed.'));
    this.#onClose();
  }

  /** The node is gone: it learns nothing any more. @returns whether there was anything to end. */
  vanish(): boolean {
    if (this.#isOver) return false;
    this.#isOver = true;
    this.#place.sessions.delete(this);
    this.#stopWaiting();
    return true;
  }

  #arrive(command: readonly string[]): void {
    if (this.#isOver) return;
    if (this.#waiter !== undefined) {
      this.#arrived.push(command);
      return;
    }
    const reading = this.#server.blockedBy(command);
    if (reading === undefined) this.#answer(this.#server.execute(command));
    else this.#wait(reading);
  }

  #wait(reading: Reading): void {
    const { way } = this.#place;
    const end = (answer: Reply | Failure): void => {
      this.#stopWaiting();
      this.#answer(answer);
      for (const command of this.#arrived.splice(0)) this.#arrive(command);
    };
    const timer = reading.block ? setTimeout(() => end(null), reading.block) : undefined;
    timer?.unref?.();
    const wake = (): void => {
      if (!way.wakes()) return;
      const found = this.#server.read(reading);
      if (found !== null) end(found);
    };
    this.#waiter = { reading, wake, fail: end, timer };
    this.#server.waiters.add(this.#waiter);
  }

  #stopWaiting(): void {
    if (this.#waiter === undefined) return;
    clearTimeout(this.#waiter.timer);
    this.#server.waiters.delete(this.#waiter);
    this.#waiter = undefined;
  }

  #answer(reply: Reply | Failure): void {
    if (this.#losesAnswers) return;
    this.#travel('answer', () => {
      const pending = this.#isOver ? undefined : this.#pending.shift();
      if (reply instanceof Failure) pending?.reject(replyError(reply));
      else pending?.resolve(receivedOf(reply));
    });
  }

  #travel(direction: 'request' | 'answer', arrive: () => void): void {
    const { way } = this.#place;
    const earliest = this.#due.get(direction) ?? 0;
    const due = arriveIn(way, direction, arrive, earliest);
    this.#due.set(direction, due);
  }
}

/** Calls a function when something has passed a way, and not before a time. @returns when. */
function arriveIn(way: Way, direction: Direction, arrive: () => void, earliest = 0): number {
  const delay = way.delay(direction);
  if (delay === undefined) {
    way.outside(() => queueMicrotask(arrive));
    return 0;
  }
  const now = Date.now();
  const due = Math.max(earliest, now + delay);
  way.outside(() => void setTimeout(arrive, due - now));
  return due;
}

/** The model's strings are bytes, and those of a client are text. */
function bytesOf(word: string | Uint8Array): string {
  if (typeof word === 'string') return isAscii(word) ? word : Buffer.from(word).toString('latin1');
  return Buffer.from(word.buffer, word.byteOffset, word.byteLength).toString('latin1');
}

function textOf(bytes: string): string {
  return isAscii(bytes) ? bytes : Buffer.from(bytes, 'latin1').toString();
}

function isAscii(text: string): boolean {
  return !/[^\0-\x7f]/.test(text);
}

function receivedOf(reply: Reply): unknown {
  if (typeof reply === 'string') return textOf(reply);
  if (reply instanceof Status) return reply.text;
  if (reply instanceof Failure) return replyError(reply);
  return Array.isArray(reply) ? reply.map(receivedOf) : reply;
}

function replyError({ message }: Failure): Error {
  return Object.assign(new Error(textOf(message)), { name: 'ReplyError' });
}
