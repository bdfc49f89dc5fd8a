// One connection of the fuzzer: a sink that misbehaves, and the checks of every byte that the hub writes to it.

import type { SharedChunk, Sink, Subscription } from '../../lib/hub.ts';
import type { HubFuzz } from './hub-fuzz.ts';
import type { Published } from './retention.ts';

/** What a client knows of each event. */
export const UNSEEN = 0;
const DELIVERED = 1;
/** A gap has said that it is lost. */
const TOLD = 2;
/** It was published before the client asked for events. */
export const NOT_OWED = 3;
/** A gap has said that the client's own position was of no use. */
const RESET = 4;

/** An error that the fuzzer throws on purpose. */
export class Injected extends Error {}

export interface Id {
  readonly epoch: number;
  readonly seq: number;
}

export function readId(id: string | null | undefined): Id | undefined {
  const [, epoch, seq] = /^(0|[1-9]\d{0,15})-(0|[1-9]\d{0,15})$/.exec(id ?? '') ?? [];
  return epoch === undefined ? undefined : { epoch: Number(epoch), seq: Number(seq) };
}

/** One block of the stream. */
interface Frame {
  readonly text: string;
  id: string | undefined;
  event: string | undefined;
  data: string | undefined;
  retry: number | undefined;
}

/** Reads whole blocks as the hub writes them; `undefined` for anything else. */
function readFrames(text: string): Frame[] | undefined {
  const frames: Frame[] = [];
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf('\n\n', at);
    if (end < 0) return undefined;
    const frame = readFrame(text.slice(at, end + 2));
    if (frame === undefined) return undefined;
    frames.push(frame);
    at = end + 2;
  }
  return frames;
}

function readFrame(text: string): Frame | undefined {
  const frame: Frame = { text, id: undefined, event: undefined, data: undefined, retry: undefined };
  for (let at = 0; at < text.length - 1; ) {
    const end = text.indexOf('\n', at);
    const line = text.slice(at, end);
    if (line.startsWith('data: '))
      frame.data = frame.data === undefined ? line.slice(6) : `${frame.data}\n${line.slice(6)}`;
    else if (line.startsWith('id: ')) frame.id = line.slice(4);
    else if (line.startsWith('event: ')) frame.event = line.slice(7);
    else if (line.startsWith('retry: ')) frame.retry = Number(line.slice(7));
    else if (!line.startsWith(':')) return undefined;
    at = end + 1;
  }
  return frame;
}

/** What one frame has taught a client, so that it can be taken back when the connection is cut before it. */
interface Lesson {
  /** How many bytes of the connection precede its end. */
  readonly end: number;
  readonly id: string;
  /** The events concerned, and what is now known of them. */
  readonly seqs: readonly number[];
  readonly status: number;
}

/** One that reads events over many connections, each of which may break anywhere. */
export interface Client {
  readonly name: string;
  readonly topics: readonly string[];
  /** The bits of its topics. */
  readonly bits: number;
  readonly conflate: boolean;
  lastId: string | undefined;
  /** For each seq, what it knows of that event. */
  status: Uint8Array;
  /** Ids that it has had: it may have kept an old one. */
  past: string[];
  isFinished: boolean;
  connection: Connection | undefined;
}

/** How a connection begins, as the fuzzer works it out. */
export interface Beginning {
  readonly lastId: string | undefined;
  readonly status: Uint8Array;
  /** The gap that must come first. */
  readonly reason: string | undefined;
  /** The client's id is a place in this order. */
  readonly resumesAfter: number | undefined;
  readonly head: number;
  /** Without an id: it begins here or later. */
  readonly least: number;
}

type Listener = () => void;

/** How a sink misbehaves. */
export interface Manners {
  /** How often it refuses more bytes. */
  readonly refuses: number;
  /** Once it refuses, it never drains. */
  readonly isHalfDead: boolean;
  /** It does not say that it is closed: a 'close' is all that the hub hears. */
  readonly hidesState: boolean;
  readonly shares: boolean;
  readonly aborts: boolean;
  readonly asksMay: boolean;
  /** Its getters may throw, its writes call other code, and it drains before a refusing write returns. */
  readonly isOdd: boolean;
}

export class Connection implements Sink {
  readonly name: string;
  readonly client: Client;
  readonly begins: Beginning;
  readonly manners: Manners;
  readonly subscribedAt: number;
  readonly writeShared: NonNullable<Sink['writeShared']>;
  readonly abort: NonNullable<Sink['abort']>;
  subscription: Subscription | undefined;
  /** The peer has gone. */
  isGone = false;
  /** The hub has heard of that. */
  isGoneKnown = false;
  /** The hub has ended the response, or given it up. */
  isEnded = false;
  /** The application has closed the subscription. */
  isReleased = false;
  isRefused = false;
  isBlocked = false;
  blockedAt = 0;
  /** What its `may` answers. */
  mayRead = true;
  /** Why the hub may end it. */
  cause: string | undefined;
  /** It waits for a page of the log. */
  readonly status: Uint8Array;
  readonly #fuzz: HubFuzz;
  readonly #listeners: Record<'drain' | 'close' | 'error', Listener[]> = { drain: [], close: [], error: [] };
  readonly #lessons: Lesson[] = [];
  #bytes = 0;
  #writes = 0;
  #writtenIn = -1;
  #frames = 0;
  #events = 0;
  /** The events of the last write. */
  #inWrite: number[] = [];
  /** The newest place that it was given. */
  #place = 0;
  /** Everything up to here was delivered or told lost. */
  #settled = 0;
  #owesReset: boolean;
  #hasEndFrame = false;
  /** The newest pages that are parts of a larger memory, and their texts: a sink may keep them for long. */
  readonly #kept: { readonly page: Uint8Array; readonly text: string }[] = [];

  constructor(fuzz: HubFuzz, client: Client, begins: Beginning, manners: Manners, name: string) {
    this.#fuzz = fuzz;
    this.name = name;
    this.client = client;
    this.begins = begins;
    this.manners = manners;
    this.status = begins.status.slice();
    this.subscribedAt = fuzz.time;
    this.#owesReset = begins.reason !== undefined;
    this.#settled = this.#place = begins.resumesAfter ?? 0;
    // A sink may do without them.
    this.writeShared = (manners.shares ? ({ bytes }: SharedChunk) => this.#take(bytes) : undefined) as never;
    this.abort = (manners.aborts ? (reason: string) => this.#giveUp(reason) : undefined) as never;
    if (manners.isOdd) {
      const { writeShared } = this;
      Object.defineProperty(this, 'writeShared', {
        get: () => {
          fuzz.mayThrow(this, 'its writeShared');
          return writeShared;
        },
      });
    }
  }

  // ── the sink ─────────────────────────────────────────────────────────────────────────────────────────────

  get closed(): boolean | undefined {
    if (this.manners.isOdd) this.#fuzz.mayThrow(this, 'its closed');
    return this.manners.hidesState ? undefined : this.isGone;
  }

  get writableEnded(): boolean | undefined {
    if (this.manners.isOdd) this.#fuzz.mayThrow(this, 'its writableEnded');
    return this.manners.hidesState ? undefined : this.isEnded;
  }

  /** The hub may not write to it any more. */
  get isOver(): boolean {
    return this.isEnded || this.isReleased || (this.manners.hidesState ? this.isGoneKnown : this.isGone);
  }

  /** The hub counts it among its subscriptions. */
  get isOpen(): boolean {
    return !this.isEnded && !this.isReleased && !this.isGoneKnown;
  }

  get listeners(): number {
    return this.#listeners.drain.length + this.#listeners.close.length;
  }

  write(chunk: Uint8Array): boolean {
    return this.#take(chunk);
  }

  end(): void {
    const fuzz = this.#fuzz;
    if (fuzz.tells) fuzz.tell(`  hub ends ${this.name}`);
    if (this.isEnded) fuzz.find('end-twice', `${this.name} is ended twice`);
    else if (this.cause === undefined && !fuzz.excusesEnd())
      fuzz.find('unexplained-end', `${this.name} is ended for no reason`);
    this.isEnded = true;
    fuzz.left(this);
    if (this.manners.isOdd && fuzz.odd(0.1)) fuzz.react(this, 'inside its end');
    if (this.manners.isOdd && fuzz.odd(0.1)) throw new Injected('end failed');
  }

  refuse(status: number): void {
    const fuzz = this.#fuzz;
    if (fuzz.tells) fuzz.tell(`  hub answers ${this.name} with ${status}`);
    if (status !== 204) fuzz.find('wrong-204', `${this.name} is refused with ${status}`);
    if (this.#writes > 0) fuzz.find('wrong-204', `${this.name} is refused after bytes were written`);
    this.isEnded = this.isRefused = true;
  }

  destroy(): void {
    this.#giveUp(undefined);
  }

  on(event: 'drain' | 'close' | 'error', listener: Listener): void {
    if (this.manners.isOdd && this.#fuzz.odd(0.01)) throw new Injected('on failed');
    this.#listeners[event].push(listener);
  }

  off(event: 'drain' | 'close' | 'error', listener: Listener): void {
    const at = this.#listeners[event].indexOf(listener);
    if (at >= 0) this.#listeners[event].splice(at, 1);
    if (this.manners.isOdd && this.#fuzz.odd(0.02)) throw new Injected('off failed');
  }

  #emit(event: 'drain' | 'close' | 'error'): void {
    for (const listener of this.#listeners[event].slice()) listener();
  }

  #giveUp(reason: string | undefined): void {
    const fuzz = this.#fuzz;
    if (fuzz.tells) fuzz.tell(`  hub gives ${this.name} up${reason ? `: ${reason}` : ''}`);
    const isOvertaken = reason === 'slow-consumer' || (reason === undefined && this.cause === undefined);
    if (isOvertaken) {
      // Where a gap may say too much, so may an end.
      const hasLost =
        fuzz.mayHaveForgotten(this.#place) || this.#missing().some((event) => !fuzz.holds(event));
      if (!fuzz.closesOvertaken || this.#events === 0 || !(hasLost || fuzz.allowsGap('truncated')))
        fuzz.find('unexplained-end', `${this.name} is given up as a slow consumer, and has lost nothing`);
    } else if (this.cause === undefined)
      fuzz.find('unexplained-end', `${this.name} is given up for no reason`);
    this.isEnded = true;
    fuzz.left(this);
    if (this.manners.isOdd && fuzz.odd(0.1)) throw new Injected('destroy failed');
  }

  // ── what the world does to it ────────────────────────────────────────────────────────────────────────────

  drain(): void {
    this.isBlocked = false;
    this.#emit('drain');
  }

  /** The peer goes. The hub may hear of it later. */
  vanish(isLate: boolean): void {
    if (this.isGone) return;
    this.isGone = true;
    if (isLate) this.#fuzz.later.push(() => this.sayGone());
    else this.sayGone();
  }

  /** The hub hears that the peer has gone. */
  sayGone(): void {
    if (!this.isGone || this.isGoneKnown) return;
    if (!this.isReleased && this.#fuzz.chance.of(0.3)) {
      if (this.#listeners.error.length === 0 && this.subscription?.closed === false)
        this.#fuzz.find('uncaught-error', `nothing listens for an error of ${this.name}`);
      this.#emit('error');
    }
    this.isGoneKnown = true;
    this.#fuzz.left(this);
    this.#emit('close');
    if (this.manners.isOdd && this.#fuzz.odd(0.1)) this.#fuzz.react(this, 'after its close');
  }

  /** What the client has received after this many bytes is what it knows from now on. */
  settleClient(bytes: number): void {
    const { client } = this;
    client.connection = undefined;
    for (const { page, text } of this.#kept)
      if (textOf(page) !== text)
        this.#fuzz.find('written-over', `a page of ${page.byteLength} bytes that ${this.name} has`);
    const received = this.#lessons.filter(({ end }) => end <= bytes);
    if (received.length === 0) return;
    client.status = this.begins.status.slice();
    for (const { id, seqs, status } of received) {
      for (const seq of seqs) client.status[seq] = status;
      client.past.push(id);
      client.lastId = id;
    }
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Bytes of somebody else, such as a heartbeat with the position of the subscription as its id. */
  beat(id: string): void {
    this.#bytes += 40;
    if (this.#frames === 0) {
      // It comes before the hub's first bytes, so it may say nothing that the client does not know.
      if (this.begins.lastId !== undefined && id !== this.begins.lastId && this.begins.reason !== 'malformed')
        this.#fuzz.find('wrong-id', `${this.name} stands at ${id} before anything was written`);
      const { reason } = this.begins;
      if (reason === undefined) this.#checkPlace(id, 'a heartbeat', []);
      else this.#learn(id, [], UNSEEN);
    } else if (this.#owesReset) {
      this.#learn(id, [], UNSEEN);
    } else this.#checkPlace(id, 'a heartbeat', []);
  }

  // ── the checks ───────────────────────────────────────────────────────────────────────────────────────────

  #take(chunk: Uint8Array): boolean {
    const fuzz = this.#fuzz;
    this.#checkWrite();
    this.#writes++;
    this.#writtenIn = fuzz.turn;
    const text = textOf(chunk);
    if (chunk.buffer.byteLength > chunk.byteLength) {
      if (this.#kept.length >= 8) this.#kept.shift();
      this.#kept.push({ page: chunk, text });
    }
    const frames = readFrames(text);
    if (frames === undefined || frames.length === 0) {
      fuzz.find('phantom', `${this.name} gets ${JSON.stringify(text)}, which is no whole frames`);
      return true;
    }
    const events = this.#events;
    this.#inWrite = [];
    for (const frame of frames) {
      this.#bytes += Buffer.byteLength(frame.text);
      this.#check(frame);
    }
    if (this.#events > events) {
      fuzz.countPage(chunk, this.#events - events);
      fuzz.delivered += this.#events - events;
      fuzz.deliveredBytes += chunk.byteLength;
    }
    if (this.client.conflate) this.#checkConflated();
    if (this.#events > events + 1 && chunk.byteLength > fuzz.maxPageBytes)
      fuzz.find('page-too-large', `${this.name} gets ${chunk.byteLength} bytes at once`);
    return this.#accept();
  }

  /** No page has two events of one key. */
  #checkConflated(): void {
    const fuzz = this.#fuzz;
    for (const seq of this.#inWrite) {
      const { next } = fuzz.events[seq]!;
      if (next !== 0 && this.#inWrite.includes(next))
        fuzz.find('not-conflated', `${this.name} gets ${seq} with ${next}, which replaces it`);
    }
  }

  #checkWrite(): void {
    const fuzz = this.#fuzz;
    if (this.#hasEndFrame) fuzz.find('write-after-end', `${this.name} is written to after sluice:end`);
    else if (this.isEnded) fuzz.find('write-after-end', `${this.name} is written to after its end`);
    else if (this.isReleased) fuzz.find('write-after-close', `${this.name} is written to after close()`);
    else if (this.isOver) fuzz.find('write-to-closed', `${this.name} is written to, and it is closed`);
    if (this.isBlocked) fuzz.find('write-while-blocked', `${this.name} is written to before its drain`);
    if (this.#writtenIn === fuzz.turn) fuzz.find('two-writes', `${this.name} is written to twice in a turn`);
    if (!this.mayRead) fuzz.find('forbidden', `${this.name} is written to without permission`);
  }

  /** Takes the bytes, or not: what the sink does when all has been checked. */
  #accept(): boolean {
    const fuzz = this.#fuzz;
    const { chance } = fuzz;
    if (this.manners.isOdd) {
      if (fuzz.odd(0.03)) {
        this.cause = 'its write threw';
        throw new Injected('write failed');
      }
      if (fuzz.odd(fuzz.reactivity)) fuzz.react(this, 'inside its write');
    }
    if (fuzz.isCalm || !chance.of(this.manners.refuses)) return true;
    this.isBlocked = true;
    this.blockedAt = fuzz.time;
    if (fuzz.tells) fuzz.tell(`  ${this.name} refuses more`);
    if (this.manners.isOdd && fuzz.odd(0.3)) {
      if (fuzz.tells) fuzz.tell(`  ${this.name} drains inside that write`);
      this.drain();
    }
    return false;
  }

  #check(frame: Frame): void {
    const { id, event } = frame;
    const fuzz = this.#fuzz;
    if (fuzz.tells) fuzz.tell(`  ${this.name} gets ${describe(frame)}`);
    if (frame.retry !== undefined && !(frame.retry >= 750 && frame.retry <= 1250))
      fuzz.find('wrong-retry', `${this.name} gets retry: ${frame.retry}`);
    if (id === undefined) {
      // `retry` may stand in a block of its own, before everything else.
      if (this.#frames > 0 || frame.retry === undefined || frame.data !== undefined)
        fuzz.find('phantom', `${this.name} gets a frame without an id: ${JSON.stringify(frame.text)}`);
      return;
    }
    this.#frames++;
    if (event === 'sluice:ready') this.#onReady(frame, id);
    else if (this.#frames === 1) fuzz.find('no-ready', `${this.name} gets ${describe(frame)} first`);
    else if (event === 'sluice:gap') this.#onGap(frame, id);
    else if (event === 'sluice:end') this.#onEnd(frame, id);
    else this.#onEvent(frame, id);
  }

  #onReady({ data }: Frame, id: string): void {
    const { begins, client } = this;
    const fuzz = this.#fuzz;
    if (this.#frames > 1) fuzz.find('phantom', `${this.name} gets a second sluice:ready`);
    const topics = (JSON.parse(data ?? '{}') as { topics: string[] }).topics;
    if (topics.join() !== client.topics.join())
      fuzz.find('wrong-ready', `${this.name}: ready names ${topics}`);
    if (begins.lastId !== undefined) {
      const expected = begins.reason === 'malformed' ? '0-0' : begins.lastId;
      if (id !== expected)
        fuzz.find('wrong-id', `${this.name} came with ${begins.lastId}, and ready has ${id}`);
      this.#learn(id, [], UNSEEN);
    } else {
      this.#checkPlace(id, 'sluice:ready', []);
      if (this.#place < begins.least)
        fuzz.find('wrong-id', `${this.name} begins at ${id}, expected ${begins.least} or later`);
    }
  }

  #onGap({ data }: Frame, id: string): void {
    const gap = JSON.parse(data ?? '{}') as {
      reason: string;
      from: string | null;
      to: string;
      topics: string[];
    };
    const { begins, client, status } = this;
    const fuzz = this.#fuzz;
    const to = readId(gap.to);
    if (to?.epoch !== fuzz.epoch) return fuzz.find('wrong-gap', `${this.name}: the gap ends at ${gap.to}`);
    if (this.#owesReset) {
      this.#owesReset = false;
      const from = begins.reason === 'malformed' ? null : begins.lastId;
      const isRight = gap.reason === begins.reason && gap.from === from && to.seq === begins.head;
      if (!isRight || id !== gap.to || gap.topics.join() !== client.topics.join())
        fuzz.find('wrong-gap', `${this.name} must get a gap ${begins.reason}, got ${data} with id ${id}`);
      const seqs = fuzz.seqs(0, to.seq, (event) => (event.bit & client.bits) !== 0);
      for (const seq of seqs) status[seq] = RESET;
      return this.#checkPlace(id, 'a gap', seqs, RESET);
    }
    fuzz.countGap(gap.reason, gap.topics);
    if (!fuzz.allowsGap(gap.reason))
      fuzz.find('unexplained-reason', `${this.name} is told ${gap.reason}, and that has not happened`);
    const from = readId(gap.from);
    if (from?.epoch !== fuzz.epoch || from.seq >= to.seq || to.seq > fuzz.head)
      return fuzz.find('wrong-gap', `${this.name}: a gap from ${gap.from} to ${gap.to}`);
    this.#settle(from.seq, `a gap from ${gap.from}`);
    const lost: number[] = [];
    for (const topic of gap.topics) {
      const bit = fuzz.bitOf(topic);
      if ((bit & client.bits) === 0) fuzz.find('wrong-gap', `${this.name} does not follow ${topic}`);
      const concerned = fuzz.seqs(from.seq, to.seq, (event) => event.bit === bit);
      this.#checkLost(concerned, gap.to);
      for (const seq of concerned) status[seq] = TOLD;
      lost.push(...concerned);
      if (concerned.length === 0 && !fuzz.mayHaveForgotten(from.seq))
        fuzz.find(
          'needless-gap',
          `${this.name} is told of a gap in ${topic}, which had nothing from ${gap.from} to ${gap.to}`,
        );
    }
    this.#checkPlace(id, 'a gap', lost, TOLD);
  }

  #checkLost(seqs: readonly number[], to: string): void {
    const fuzz = this.#fuzz;
    for (const seq of seqs) {
      const event = fuzz.events[seq]!;
      if (this.status[seq] === DELIVERED)
        fuzz.find('wrong-gap', `${this.name} is told that ${seq} is lost, and has it`);
      else if (fuzz.holds(event))
        fuzz.find(
          'false-gap',
          `${this.name} is told that ${event.topic} ${seq} is lost (to ${to}), and it is still held`,
        );
    }
  }

  #onEnd({ data }: Frame, id: string): void {
    const { client } = this;
    const fuzz = this.#fuzz;
    const open = client.topics.filter((topic) => !fuzz.hasEnded(topic));
    if (open.length > 0) fuzz.find('end-too-early', `${this.name} gets its end, and ${open} have not ended`);
    if ((JSON.parse(data ?? '{}') as { topics: string[] }).topics.join() !== client.topics.join())
      fuzz.find('wrong-end', `${this.name}: the end is ${data}`);
    this.#checkPlace(id, 'sluice:end', []);
    this.#settle(fuzz.head, 'sluice:end');
    this.#hasEndFrame = true;
    this.cause = 'its topics have ended';
  }

  #onEvent(frame: Frame, id: string): void {
    const fuzz = this.#fuzz;
    const { client, status } = this;
    const place = readId(id);
    const event = place?.epoch === fuzz.epoch ? fuzz.events[place.seq] : undefined;
    if (event === undefined || event.text !== frame.text || (event.bit & client.bits) === 0)
      return fuzz.find('phantom', `${this.name} gets ${JSON.stringify(frame.text)}`);
    const { seq, topic } = event;
    const what = `${topic} ${seq}`;
    if (this.#owesReset) fuzz.find('silent-hole', `${this.name} gets ${what} before its gap`);
    const known = status[seq];
    if (known === DELIVERED) fuzz.find('duplicate', `${this.name} gets ${what} again`);
    else if (known === TOLD || known === RESET)
      fuzz.find('told-lost-then-delivered', `${this.name} gets ${what}, which a gap called lost`);
    else if (known === NOT_OWED && !fuzz.hasLog)
      fuzz.find('phantom', `${this.name} gets ${what}, which it did not ask for`);
    if (seq <= this.#place) fuzz.find('reorder', `${this.name} gets ${what} after place ${this.#place}`);
    if (client.conflate && event.next !== 0 && fuzz.isOutdated(event))
      fuzz.find('not-conflated', `${this.name} gets ${what}, and ${event.next} had replaced it`);
    if (event.deleted !== undefined && event.deleted < fuzz.turn && !fuzz.hasLog)
      fuzz.find('deleted-delivered', `${this.name} gets ${what}, which was deleted before this turn`);
    if (event.at < this.subscribedAt - fuzz.maxAge && !fuzz.hasLog)
      fuzz.find('too-old', `${this.name} gets ${what}, which was too old when it subscribed`);
    this.#events++;
    this.#inWrite.push(seq);
    status[seq] = DELIVERED;
    this.#checkPlace(id, what, [seq], DELIVERED);
  }

  /** An id says that everything up to there is settled, so that a client can return with it. */
  #checkPlace(id: string, what: string, seqs: readonly number[], status: number = UNSEEN): void {
    const fuzz = this.#fuzz;
    const place = readId(id);
    if (place?.epoch !== fuzz.epoch || place.seq > fuzz.head || place.seq < this.#place)
      return fuzz.find('wrong-id', `${this.name}: ${what} has the id ${id} after place ${this.#place}`);
    this.#place = place.seq;
    this.#settle(place.seq, what);
    this.#learn(id, seqs, status);
  }

  #settle(upTo: number, what: string): void {
    const fuzz = this.#fuzz;
    for (let seq = this.#settled + 1; seq <= upTo; seq++) {
      const event = fuzz.events[seq];
      if (event !== undefined && this.#lacks(event))
        fuzz.find('silent-hole', `${this.name} lacks ${event.topic} ${seq} at ${what}`);
    }
    if (upTo > this.#settled) this.#settled = upTo;
  }

  #lacks({ bit, seq, next }: Published): boolean {
    const { client } = this;
    return (bit & client.bits) !== 0 && this.status[seq] === UNSEEN && !(client.conflate && next !== 0);
  }

  #learn(id: string, seqs: readonly number[], status: number): void {
    this.#lessons.push({ end: this.#bytes, id, seqs, status });
  }

  #missing(): Published[] {
    const fuzz = this.#fuzz;
    const missing: Published[] = [];
    for (let seq = this.#settled + 1; seq <= fuzz.head; seq++) {
      const event = fuzz.events[seq];
      if (event !== undefined && (event.bit & this.client.bits) !== 0 && this.status[seq] === UNSEEN)
        missing.push(event);
    }
    return missing;
  }

  /** How many events of a topic are held that it has not got. */
  lagIn(topic: string): number {
    const fuzz = this.#fuzz;
    return this.#missing().filter((event) => event.topic === topic && fuzz.holds(event)).length;
  }

  /** The hub has run to rest: a sink that takes bytes has everything. */
  checkRest(): void {
    const fuzz = this.#fuzz;
    if (this.isOver || this.isBlocked) {
      if (this.isOver && this.subscription !== undefined && !this.subscription.closed && !this.isGone)
        fuzz.find('not-released', `${this.name} is over, and its subscription is not closed`);
      return;
    }
    const { subscription } = this;
    if (subscription === undefined) return;
    if (subscription.closed)
      return fuzz.find('orphaned', `${this.name} is closed, and its sink was not ended`);
    if (this.cause !== undefined)
      return fuzz.find('orphaned', `${this.name} still stands, and ${this.cause}`);
    if (this.#frames === 0 || this.#owesReset) return fuzz.find('stuck', `${this.name} has got nothing`);
    const lacks = this.#missing().find((event) => this.#lacks(event));
    if (lacks !== undefined)
      return fuzz.find('stuck', `${this.name} lacks ${lacks.topic} ${lacks.seq} at rest`);
    if (this.client.topics.every((topic) => fuzz.hasEnded(topic)))
      return fuzz.find('end-missing', `${this.name} has not got its end`);
    const { position, lag } = subscription;
    if (position !== fuzz.hub.position || lag !== 0)
      fuzz.find('wrong-position', `${this.name} stands at ${position} with a lag of ${lag} at rest`);
  }
}

function textOf({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString();
}

function describe({ id, event, data }: Frame): string {
  const place = readId(id);
  const where = place === undefined ? id : place.seq;
  if (event === 'sluice:gap') {
    const { reason, from, to, topics } = JSON.parse(data ?? '{}') as Record<string, string>;
    return `a gap ${reason} in ${topics} from ${readId(from)?.seq ?? from} to ${readId(to)?.seq ?? to}, id ${where}`;
  }
  if (id === undefined) return 'retry';
  return event?.startsWith('sluice:') ? `${event} with id ${where}` : `event ${where}`;
}
