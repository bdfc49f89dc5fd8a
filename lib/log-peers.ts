// Answers the processes that follow the order of a log: the owner's side of their connections.
// Needs `log.ts`, `log-owner.ts` and `log-wire.ts` beside it.

import type { Duplex } from 'node:stream';
import type { AppendOptions, LogPage, OwnLog } from './log.ts';
import { LogOwner } from './log-owner.ts';
import {
  badMessage,
  encodeMessage,
  firstOf,
  isChange,
  listOf,
  type Message,
  MessageReader,
  pack,
  text,
  unpackNew,
  whole,
} from './log-wire.ts';

/** What the owner answers beside what a log is asked: `value` and the answer are JSON. */
export type Answers = Readonly<Record<string, (value: unknown) => unknown>>;

export interface PeersOptions {
  readonly maxMessageBytes: number;
  readonly maxRecentBytes: number;
  readonly answers: Answers;
  readonly onError: (error: unknown) => void;
}

/** The version of the messages. Both sides come from one installation, or nearly. */
export const WIRE_VERSION: number = 1;

/** Most bytes of frames in an answer, unless one event has more. */
export const MAX_ANSWER_BYTES: number = 256 * 1024;

/** The same with what the head of the answer says of each entry: many are small. */
const MAX_PAGE_BYTES = 1024 * 1024;

/** Most topics of one question, and of one answer. */
export const MAX_TOPICS: number = 1000;

/** A process that asks for more at a time is cut off: it would make this one hold the answers. */
export const MAX_ASKED: number = 16;

/** While so much waits for a process, nothing more is read from it. */
const MAX_UNSENT_BYTES = 1024 * 1024;

/** Milliseconds. */
const GREETING_TIMEOUT = 10_000;
const END_TIMEOUT = 1000;
const STANDSTILL = 1000;

/** Milliseconds: a follower that hears nothing for longer takes its connection for dead. */
const MAX_FOLLOW_TIMEOUT = 60_000;

/**
 * The connections of an owner. Each process asks, and gets an answer: nothing is sent to one that has not
 * asked, so that a slow one holds nothing here but one answer to each question.
 */
export class Peers {
  readonly owner: LogOwner;
  readonly #options: PeersOptions;
  readonly #peers = new Set<Peer>();
  /**
   * What all processes ask and do not write. One is answered in each turn, so that none delays what is
   * written.
   */
  #lookups: (() => void)[] = [];
  #isPlanned = false;

  constructor(log: OwnLog, options: PeersOptions) {
    const { maxRecentBytes, onError } = options;
    this.#options = options;
    const onNews = (): void => {
      for (const peer of this.#peers) peer.tell();
    };
    this.owner = new LogOwner(log, { maxRecentBytes, onNews, onError });
  }

  get size(): number {
    return this.#peers.size;
  }

  /**
   * By how many entries the slowest of the processes is behind that have asked for news within the last
   * second.
   */
  get lag(): number {
    const after = Array.from(this.#peers, (peer) => peer.position);
    return this.owner.head - Math.min(this.owner.head, ...after);
  }

  /** Takes a connection. What is not a message ends it, and nothing else. */
  accept(stream: Duplex): void {
    const peer = new Peer(stream, this.owner, {
      ...this.#options,
      lookUp: (act) => this.#lookUp(act),
      onClose: () => this.#peers.delete(peer),
    });
    this.#peers.add(peer);
  }

  /** Hands over what waits, answers who waits for that, and ends the connections. */
  async close(): Promise<void> {
    this.owner.close();
    await new Promise((resolve) => setImmediate(resolve));
    for (const peer of [...this.#peers]) peer.end();
  }

  #lookUp(act: () => void): void {
    this.#lookups.push(act);
    this.#plan();
  }

  #plan(): void {
    if (this.#isPlanned || this.#lookups.length === 0) return;
    this.#isPlanned = true;
    setImmediate(() => {
      this.#isPlanned = false;
      this.#lookups.shift()?.();
      this.#plan();
    });
  }
}

interface PeerOptions extends PeersOptions {
  readonly lookUp: (act: () => void) => void;
  readonly onClose: () => void;
}

type Head = Message['head'];

interface Following {
  readonly id: number;
  readonly after: number;
  readonly timer: ReturnType<typeof setTimeout>;
}

/** The connection of one process. */
class Peer {
  readonly #stream: Duplex;
  readonly #owner: LogOwner;
  readonly #options: PeerOptions;
  readonly #reader: MessageReader;
  readonly #greeting: ReturnType<typeof setTimeout>;
  #hasGreeted = false;
  #asked = 0;
  #after = Infinity;
  #followedAt = 0;
  #following: Following | undefined;
  /** What it was told of why the log takes no events. */
  #failure: string | undefined;

  constructor(stream: Duplex, owner: LogOwner, options: PeerOptions) {
    this.#stream = stream;
    this.#owner = owner;
    this.#options = options;
    this.#reader = new MessageReader(options.maxMessageBytes);
    this.#greeting = setTimeout(() => this.close(), GREETING_TIMEOUT);
    this.#greeting.unref?.();
    stream.on('data', (chunk: Buffer) => this.#take(chunk));
    stream.on('drain', () => this.#drained());
    stream.on('error', () => {});
    stream.on('end', () => this.close());
    stream.on('close', () => this.#closed());
  }

  /** What it has received; `Infinity` where it does not follow, or stands still. */
  get position(): number {
    return performance.now() - this.#followedAt < STANDSTILL ? this.#after : Infinity;
  }

  /** There is news. */
  tell(): void {
    if (this.#following === undefined) return;
    const { id, after } = this.#following;
    this.#follow(id, after);
  }

  close(): void {
    this.#stream.destroy();
  }

  /** Closes the connection once everything was sent, or after a second. */
  end(): void {
    this.#stream.end(() => this.close());
    setTimeout(() => this.close(), END_TIMEOUT).unref?.();
  }

  #drained(): void {
    this.#stream.resume();
    this.tell();
  }

  #closed(): void {
    clearTimeout(this.#greeting);
    this.#stopFollowing();
    this.#options.onClose();
  }

  #take(chunk: Buffer): void {
    try {
      for (const message of this.#reader.read(chunk)) {
        if (this.#stream.destroyed) return;
        this.#handle(message);
      }
    } catch (error) {
      this.#options.onError(error);
      this.close();
    }
  }

  #handle(message: Message): void {
    const { head } = message;
    const id = whole(head.id, 1);
    const ask = text(head.ask);
    if (ask === 'hello') return this.#greet(id, head);
    if (!this.#hasGreeted) throw badMessage('it does not begin with a greeting');
    if (ask === 'follow') return this.#beginToFollow(id, head);
    const question = this.#questionOf(ask, message);
    if (WRITES.includes(ask)) return void this.#answer(id, question);
    if (this.#asked === MAX_ASKED) throw badMessage(`it asks for more than ${MAX_ASKED} things at a time`);
    this.#asked++;
    this.#options.lookUp(() => void this.#answer(id, question).then(() => this.#asked--));
  }

  /** Never rejects. */
  async #answer(id: number, question: () => unknown): Promise<void> {
    if (this.#stream.destroyed) return;
    try {
      const { parts, ...answer } = Object(await question()) as { parts?: readonly Uint8Array[] };
      this.#send({ id, ...answer }, parts);
    } catch (error) {
      this.#send({ id, error: errorOf(error) });
    }
  }

  #greet(id: number, { version }: Head): void {
    if (this.#hasGreeted) throw badMessage('it greets twice');
    if (version !== WIRE_VERSION) throw badMessage(`it is of version ${version}`);
    clearTimeout(this.#greeting);
    this.#hasGreeted = true;
    const { epochs } = this.#owner;
    this.#sendNews(id, { epochs });
  }

  #questionOf(ask: string, message: Message): () => unknown {
    const { answers } = this.#options;
    if (Object.hasOwn(QUESTIONS, ask)) return QUESTIONS[ask]!(this.#owner, message);
    const answer = Object.hasOwn(answers, ask) ? answers[ask] : undefined;
    if (answer === undefined) throw badMessage(`it asks for "${ask.slice(0, 40)}"`);
    return async () => ({ value: (await answer(message.head.value)) ?? null });
  }

  #beginToFollow(id: number, head: Head): void {
    if (this.#following !== undefined) throw badMessage('it follows twice');
    const after = whole(head.after, 0);
    const timeout = Math.min(MAX_FOLLOW_TIMEOUT, whole(head.timeout, 1));
    this.#after = after;
    this.#followedAt = performance.now();
    const timer = setTimeout(() => this.#tellNothing(id), timeout);
    timer.unref?.();
    this.#following = { id, after, timer };
    this.#follow(id, after);
  }

  #follow(id: number, after: number): void {
    // It gets its news once it has taken what it was given.
    if (this.#stream.writableLength > MAX_UNSENT_BYTES) return;
    const news = this.#owner.newsAfter(after);
    if (news === undefined && this.#owner.failure?.message === this.#failure) return;
    this.#stopFollowing();
    const { items, parts } = pack(news?.entries ?? []);
    this.#sendNews(id, { upTo: news?.upTo ?? 0, items }, parts);
  }

  /** Where the order is, and whether the log takes events, is news as well. */
  #sendNews(id: number, news: object, parts?: readonly Uint8Array[]): void {
    this.#failure = this.#owner.failure?.message;
    this.#send({ id, ...news, head: this.#owner.head, failure: this.#failure }, parts);
  }

  /** The process then knows that its connection is alive. */
  #tellNothing(id: number): void {
    this.#stopFollowing();
    this.#sendNews(id, { upTo: 0, items: [] });
  }

  #stopFollowing(): void {
    clearTimeout(this.#following?.timer);
    this.#following = undefined;
  }

  #send(head: object, parts?: readonly Uint8Array[]): void {
    const stream = this.#stream;
    if (stream.destroyed) return;
    stream.write(encodeMessage(head, parts));
    if (stream.writableLength > MAX_UNSENT_BYTES) stream.pause();
  }
}

/** Checks at once what is asked, so that what is wrong ends the connection. */
type Question = (owner: LogOwner, message: Message) => () => unknown;

const QUESTIONS: Readonly<Record<string, Question>> = {
  append: (owner, { head, bytes }) => {
    const [topic, options] = [topicOf(head.topic), optionsOf(head)];
    const events = unpackNew(head.items, bytes);
    if (events.length === 0) throw badMessage('it appends nothing');
    return () => owner.append(topic, events, options);
  },
  change: (owner, { head }) => {
    const [topic, { change }] = [topicOf(head.topic), head];
    if (!isChange(change)) throw badMessage('it has no change');
    return () => ({ seq: owner.change(topic, change) ?? null });
  },
  read: (owner, { head }) => {
    const [topics, after] = [topicsOf(head), whole(head.after, 0)];
    const maxBytes = Math.min(MAX_ANSWER_BYTES, whole(head.maxBytes, 0));
    const options = { newestOnly: head.newestOnly === true };
    return async () => packedPage(await owner.read(topics, after, maxBytes, options));
  },
  find: (owner, { head }) => {
    const topics = topicsOf(head);
    return () => ({ records: owner.find(topics) });
  },
  list: (owner, { head }) => {
    const [after, limit] = [text(head.after), Math.min(MAX_TOPICS, whole(head.limit, 0))];
    return () => ({ records: owner.list({ after, limit }) });
  },
  before: (owner, { head }) => {
    const [topics, count] = [topicsOf(head), whole(head.count, 0)];
    return () => ({ seq: owner.beforeNewest(topics, count) });
  },
};

function packedPage({ entries, ...page }: LogPage): object {
  const sent = firstOf(entries, MAX_PAGE_BYTES);
  const until = sent.length < entries.length ? sent.at(-1)!.seq : page.until;
  return { ...page, until, ...pack(sent) };
}

/** What is done at once: an append waits for the end of the turn, with all others. */
const WRITES = ['append', 'change'];

/** What a process is told of an error. */
function errorOf(error: unknown): object {
  const { code, status, message } = Object(error) as Record<string, unknown>;
  return { code, status, message: String(message ?? error) };
}

/** The hubs check names by their own rule. The owner's own topics begin with `$`. */
function topicOf(value: unknown): string {
  const name = text(value);
  if (name !== '' && name.length <= MAX_NAME_LENGTH && !name.startsWith('$')) return name;
  throw badMessage('it names no topic');
}

const MAX_NAME_LENGTH = 1000;

function topicsOf({ topics }: Head): readonly string[] {
  const names = listOf(topics);
  if (names.length > MAX_TOPICS) throw badMessage(`it names ${names.length} topics`);
  return names.map(topicOf);
}

function optionsOf({ key, digest, behind }: Head): AppendOptions {
  return {
    idempotency: key === undefined ? undefined : { key: text(key), digest: text(digest) },
    behind: behind === undefined ? undefined : text(behind),
  };
}
