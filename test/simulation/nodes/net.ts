// The network between clients and nodes: connections that delay, divide, hold back and lose bytes.

import { MemorySocket } from '../../../lib/socket-pair.ts';
import type { Transport, TransportResponse } from '../../../lib/transport.ts';
import type { Stream } from './chance.ts';
import type { Clock, Process } from './clock.ts';

/** What a connection asks of the world around it. */
export interface Surroundings {
  readonly clock: Clock;
  /** From here on nothing is lost any more. */
  isCalm(): boolean;
  /** Called for each cut, before anything is lost. */
  onCut(connection: Connection): void;
  /** Called when the server has written, and when bytes have arrived. */
  onSend(connection: Connection): void;
  onArrive(connection: Connection): void;
}

/** Where a connection leads. */
export interface Peer {
  readonly process: Process | undefined;
  /** Takes a new connection, as a server does. */
  accept(wire: Wire, connection: Connection): void;
}

/** One TCP connection between a client and a node. The client's end is `transport`'s, the other is `wire`. */
export class Connection {
  readonly name: string;
  readonly client: string;
  readonly peer: Peer;
  readonly wire: Wire;
  /** What the server has written and the client has not received. */
  readonly #underWay: Buffer[] = [];
  #bytesUnderWay = 0;
  /** What has arrived and the client has not read. */
  readonly inbox: Inbox = new Inbox();
  readonly #capacity: number;
  readonly #window: number;
  readonly #chance: Stream;
  readonly #around: Surroundings;
  #isArriving = false;
  #hasFin = false;
  /** The server's end was closed or cut: what is under way may still arrive. */
  #isReset = false;
  #onSpace: (() => void) | undefined;
  /** Nothing arrives any more, and neither end hears of that. */
  isHalfDead = false;
  /** Both ends are over, or will be once they hear of it. */
  isCut = false;
  /** The text that has arrived, chunks and all. */
  arrived = '';
  /** Where the client was when it asked. */
  lastEventId = '';

  constructor(name: string, client: string, peer: Peer, chance: Stream, around: Surroundings) {
    this.name = name;
    this.client = client;
    this.peer = peer;
    this.#chance = chance;
    this.#around = around;
    this.#capacity = chance.pick([1, 150, 600, 4000]);
    this.#window = chance.pick([200, 1000, 100_000]);
    this.wire = new Wire(this, chance.pick([1, 300, 16_384]));
    this.inbox.onRead = () => this.#arriveSoon();
  }

  /** What was written and has not arrived, as text. */
  get underWay(): string {
    return Buffer.concat(this.#underWay).toString('latin1');
  }

  get isOpen(): boolean {
    return !this.isCut && !this.wire.destroyed && !this.inbox.isOver;
  }

  delay(): number {
    return this.#chance.of(this.#around.isCalm() ? 0.05 : 0.15)
      ? this.#chance.below(120)
      : this.#chance.below(6);
  }

  /** Sends the request. Rejects where nobody listens. */
  open(head: string): void {
    const { clock } = this.#around;
    clock.outside(() =>
      clock.later(this.delay(), () => {
        const { process } = this.peer;
        if (this.isCut) return;
        if (process === undefined || process.isDead) return this.inbox.fail(lost('ECONNREFUSED'));
        clock.as(process, () => {
          this.peer.accept(this.wire, this);
          this.wire.push(head);
        });
      }),
    );
  }

  // ── from the server to the client ───────────────────────────────────────────────────────────────────────

  send(chunk: Buffer, done: () => void): void {
    // The kernel of a machine that is gone takes nothing, nor does a connection that is over.
    if (this.isCut || this.#isReset) return;
    this.#underWay.push(chunk);
    this.#bytesUnderWay += chunk.length;
    if (this.#bytesUnderWay > this.#capacity) this.#onSpace = done;
    else done();
    this.#around.onSend(this);
    this.#arriveSoon();
  }

  /** The server has ended its half. */
  finish(): void {
    this.#hasFin = true;
    this.#arriveSoon();
  }

  /** The server's end is gone without an end. */
  reset(): void {
    if (this.#hasFin || this.isCut) return;
    this.#isReset = true;
    if (this.#chance.of(0.5)) this.#drop(this.#chance.below(this.#bytesUnderWay + 1));
    this.#arriveSoon();
  }

  #arriveSoon(): void {
    if (this.#isArriving || this.isCut || this.isHalfDead) return;
    if (this.#bytesUnderWay > 0 && this.inbox.bytes >= this.#window) return;
    const hasMore = this.#bytesUnderWay > 0 || ((this.#hasFin || this.#isReset) && !this.inbox.isOver);
    if (!hasMore) return;
    this.#isArriving = true;
    const { clock } = this.#around;
    clock.outside(() => clock.later(this.delay(), () => this.#arrive()));
  }

  #arrive(): void {
    this.#isArriving = false;
    if (this.isCut || this.isHalfDead) return;
    const all = this.#bytesUnderWay;
    this.#deliver(all === 0 || this.#chance.of(0.7) ? all : 1 + this.#chance.below(all));
    if (this.#bytesUnderWay === 0) {
      if (this.#hasFin) this.inbox.end();
      else if (this.#isReset) this.inbox.fail(lost('ECONNRESET'));
    }
    this.#arriveSoon();
  }

  #deliver(bytes: number): void {
    const taken = this.#take(bytes);
    if (taken.length > 0) {
      this.arrived += taken.toString('latin1');
      this.inbox.put(taken);
      this.#around.onArrive(this);
    }
    const onSpace = this.#onSpace;
    const { process } = this.peer;
    if (onSpace === undefined || this.#bytesUnderWay > this.#capacity || process === undefined) return;
    this.#onSpace = undefined;
    if (!process.isDead) this.#around.clock.as(process, onSpace);
  }

  #take(bytes: number): Buffer {
    const all = Buffer.concat(this.#underWay);
    this.#underWay.length = 0;
    if (bytes < all.length) this.#underWay.push(all.subarray(bytes));
    this.#bytesUnderWay = Math.max(0, all.length - bytes);
    return all.subarray(0, bytes);
  }

  /** Loses what comes after some bytes. */
  #drop(kept: number): void {
    const all = Buffer.concat(this.#underWay).subarray(0, kept);
    this.#underWay.length = 0;
    if (kept > 0) this.#underWay.push(all);
    this.#bytesUnderWay = all.length;
  }

  // ── ends ────────────────────────────────────────────────────────────────────────────────────────────────

  /** The network loses the connection: some of what is under way still arrives, and each end hears of it. */
  cut(): void {
    if (this.isCut) return;
    const { clock } = this.#around;
    const arriving = this.#chance.of(0.4) ? this.#chance.below(this.#bytesUnderWay + 1) : 0;
    if (arriving > 0) this.#deliver(arriving);
    this.#around.onCut(this);
    this.isCut = true;
    clock.outside(() => {
      clock.later(this.delay(), () => this.inbox.fail(lost('ECONNRESET')));
      clock.later(this.#chance.of(0.3) ? 3000 : this.delay(), () => this.#closeServer());
    });
  }

  /** The client has left. The server hears of it now or much later. */
  leave(): void {
    if (this.isCut) return;
    this.isCut = true;
    this.inbox.fail(lost('ABORTED'));
    const { clock } = this.#around;
    const delay = this.#chance.of(0.25) ? 2000 : this.delay();
    clock.outside(() => clock.later(delay, () => this.#closeServer()));
  }

  /** The machine of the node is gone. */
  vanish(): void {
    this.reset();
    this.#onSpace = undefined;
  }

  #closeServer(): void {
    const { process } = this.peer;
    if (process === undefined || process.isDead || this.wire.destroyed) return;
    this.#around.clock.as(process, () => this.wire.destroy());
  }
}

/** The server's end of a connection, as its HTTP server sees it. */
export class Wire extends MemorySocket {
  readonly connection: Connection;

  constructor(connection: Connection, writableHighWaterMark: number) {
    super({ writableHighWaterMark });
    this.connection = connection;
  }

  override _read(): void {}

  override _write(chunk: Buffer | string, encoding: BufferEncoding, done: () => void): void {
    this.connection.send(typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk, done);
  }

  override _final(done: () => void): void {
    this.connection.finish();
    done();
  }

  override _destroy(_error: Error | null, done: () => void): void {
    this.connection.reset();
    done();
  }
}

/** What has arrived at a client and was not read. */
class Inbox {
  readonly #chunks: Buffer[] = [];
  bytes = 0;
  #hasEnded = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;
  onRead: () => void = () => {};

  get isOver(): boolean {
    return this.#hasEnded || this.#error !== undefined;
  }

  put(chunk: Buffer): void {
    if (this.isOver) return;
    this.#chunks.push(chunk);
    this.bytes += chunk.length;
    this.#wake?.();
  }

  end(): void {
    this.#hasEnded = true;
    this.#wake?.();
  }

  fail(error: Error): void {
    if (!this.isOver) this.#error = error;
    this.#wake?.();
  }

  /** The next bytes; undefined at the end. Throws where the connection was lost. */
  async next(): Promise<Buffer | undefined> {
    while (this.#chunks.length === 0 && !this.isOver) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
    const chunk = this.#chunks.shift();
    if (chunk !== undefined) {
      this.bytes -= chunk.length;
      this.onRead();
      return chunk;
    }
    if (this.#error !== undefined) throw this.#error;
    return undefined;
  }
}

function lost(code: string): Error {
  return Object.assign(new Error(code), { code });
}

/** Sends the requests of a client over connections that `dial` makes. */
export function transportOver(dial: () => Connection): Transport {
  return async ({ url, headers, signal }) => {
    signal.throwIfAborted();
    const connection = dial();
    connection.lastEventId = headers['last-event-id'] ?? '';
    signal.addEventListener('abort', () => connection.leave(), { once: true });
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    connection.open(
      `GET ${url.pathname}${url.search} HTTP/1.1\r\nhost: ${url.host}\r\nconnection: close\r\n${lines.join('')}\r\n`,
    );
    return responseOf(connection);
  };
}

async function responseOf({ inbox }: Connection): Promise<TransportResponse> {
  let text = '';
  let end = -1;
  while (end < 0) {
    const chunk = await inbox.next();
    if (chunk === undefined) throw lost('EOF');
    text += chunk.toString('latin1');
    end = text.indexOf('\r\n\r\n');
  }
  const [status = '', ...lines] = text.slice(0, end).split('\r\n');
  const headers: Record<string, string> = Object.fromEntries(
    lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
    }),
  );
  const rest = Buffer.from(text.slice(end + 4), 'latin1');
  const isChunked = headers['transfer-encoding'] === 'chunked';
  return {
    status: Number(status.split(' ')[1]),
    headers,
    body: isChunked ? unchunked(rest, inbox) : plain(rest, inbox, Number(headers['content-length'] ?? 0)),
  };
}

async function* plain(
  rest: Buffer,
  inbox: Inbox,
  length: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  let left = length - rest.length;
  if (rest.length > 0) yield rest;
  while (left > 0) {
    const chunk = await inbox.next();
    if (chunk === undefined) throw lost('EOF');
    left -= chunk.length;
    yield chunk;
  }
}

/** The content of HTTP chunks. An end of the connection before the last chunk is a failure, as in Node. */
async function* unchunked(first: Buffer, inbox: Inbox): AsyncGenerator<Uint8Array, void, undefined> {
  let held = first;
  for (;;) {
    const line = held.indexOf('\r\n');
    const size = line < 0 ? -1 : Number.parseInt(held.toString('latin1', 0, line), 16);
    if (size === 0) return;
    if (size > 0 && held.length > line + 2) {
      // A part of a chunk is handed on as it comes.
      const content = held.subarray(line + 2, line + 2 + size);
      yield content;
      let left = size - content.length;
      held = held.subarray(line + 2 + content.length);
      while (left > 0) {
        const chunk = await inbox.next();
        if (chunk === undefined) throw lost('EOF');
        yield chunk.subarray(0, left);
        held = chunk.subarray(left);
        left -= Math.min(left, chunk.length);
      }
      while (held.length < 2) held = await more(held, inbox);
      held = held.subarray(2);
      continue;
    }
    held = await more(held, inbox);
  }
}

async function more(held: Buffer, inbox: Inbox): Promise<Buffer> {
  const chunk = await inbox.next();
  if (chunk === undefined) throw lost('EOF');
  return Buffer.concat([held, chunk]);
}
