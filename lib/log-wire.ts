// Writes and reads the messages between the owner of a log and the processes that follow it.
// Needs `log.ts` beside it.

import type { LogChange, LogEntry, NewEntry, TopicChange } from './log.ts';

/**
 * A message has a head, which is JSON, and bytes:
 *
 *     │ length of what follows │ length of the head │ head │ bytes ▶
 *       4 bytes                  4 bytes
 */
export interface Message {
  readonly head: Readonly<Record<string, unknown>> & { readonly [Name in Member]?: unknown };
  readonly bytes: Buffer;
}

/** What heads have by these names comes from another process, and is checked where it is used. */
type Member =
  | ('id' | 'ask' | 'topic' | 'items' | 'value' | 'after' | 'timeout' | 'limit' | 'count')
  | ('maxBytes' | 'newestOnly' | 'epoch' | 'epochs' | 'first' | 'head' | 'seq' | 'upTo' | 'records');

/** What a process has sent is no message, or not one that it may send. Its connection is cut. */
export interface MessageError extends Error {
  readonly code: 'ERR_SSE_BAD_MESSAGE';
}

export function badMessage(why: string): MessageError {
  const error = new Error(`another process has sent a message that cannot be used: ${why}`);
  return Object.assign(error, { code: 'ERR_SSE_BAD_MESSAGE' as const });
}

const LENGTHS = 8;

export function encodeMessage(head: object, parts: readonly Uint8Array[] = []): Buffer {
  const json = Buffer.from(JSON.stringify(head));
  const lengths = Buffer.allocUnsafe(LENGTHS);
  const message = Buffer.concat([lengths, json, ...parts]);
  message.writeUInt32BE(message.length - 4, 0);
  message.writeUInt32BE(json.length, 4);
  return message;
}

/** Puts the chunks of a connection together again to messages. Holds one message at most. */
export class MessageReader {
  readonly #maxBytes: number;
  #chunks: Buffer[] = [];
  #held = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * Takes a chunk, and yields the messages that it completes.
   * @throws {MessageError} for what is no message, and for one of more than `maxBytes` as soon as its length
   * is known.
   */
  *read(chunk: Buffer): Generator<Message> {
    this.#chunks.push(chunk);
    this.#held += chunk.length;
    for (;;) {
      const length = this.#length;
      if (length === undefined || this.#held < 4 + length) return;
      yield messageOf(this.#take(4 + length).subarray(4));
    }
  }

  get #length(): number | undefined {
    if (this.#held < 4) return undefined;
    if (this.#chunks[0]!.length < 4) this.#chunks = [Buffer.concat(this.#chunks)];
    const length = this.#chunks[0]!.readUInt32BE(0);
    if (length > this.#maxBytes) throw badMessage(`it has ${length} bytes, and may have ${this.#maxBytes}`);
    return length;
  }

  #take(count: number): Buffer {
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
    const rest = all.subarray(count);
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#held = rest.length;
    return all.subarray(0, count);
  }
}

function messageOf(content: Buffer): Message {
  const length = content.length < 4 ? Infinity : content.readUInt32BE(0);
  if (4 + length > content.length) throw badMessage('its head is longer than the whole');
  const head = parse(content.toString('utf8', 4, 4 + length));
  if (typeof head !== 'object' || head === null) throw badMessage('its head is not an object');
  return { head: head as Message['head'], bytes: content.subarray(4 + length) };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw badMessage('its head is not JSON');
  }
}

// ── entries ───────────────────────────────────────────────────────────────────────────────────────────────

/** An entry in the head of a message. Its frame is among the bytes, in the same order. */
type PackedEntry = readonly [seq: number, topic: string, at: number, key: string | null, bytes: number];
type PackedChange = readonly [seq: number, topic: string, change: TopicChange];

/** The part of a message that has entries: what goes into its head, and its bytes. */
export interface Packed {
  readonly items: readonly (PackedEntry | PackedChange)[];
  readonly parts: readonly Uint8Array[];
}

export function pack(entries: readonly (LogEntry | LogChange)[]): Packed {
  const items = entries.map((entry): PackedEntry | PackedChange => {
    if ('change' in entry) return [entry.seq, entry.topic, entry.change];
    const { seq, topic, at, key, frame } = entry;
    return [seq, topic, at, key ?? null, frame.length];
  });
  return { items, parts: entries.flatMap((entry) => ('frame' in entry ? entry.frame : [])) };
}

/** @throws {MessageError} where it is not what `pack` makes. */
export function unpack(items: unknown, bytes: Buffer): (LogEntry | LogChange)[] {
  const frames = new Frames(bytes);
  const entries = listOf(items).map((item): LogEntry | LogChange => {
    const [seq, topic, at, key, length] = listOf(item);
    const place = { seq: whole(seq, 0), topic: text(topic) };
    if (isChange(at)) return { ...place, change: at };
    return { ...place, at: number(at), key: keyOf(key), frame: frames.next(length) };
  });
  frames.end();
  return entries;
}

/** The events of an append, which have no places yet, and the most bytes that they take in a message. */
export function packNew(events: readonly NewEntry[]): {
  readonly items: unknown;
  readonly parts: Packed['parts'];
  readonly bytes: number;
} {
  const items = events.map(({ at, key, frame }) => [at, key ?? null, frame.length]);
  const bytes = events.reduce((sum, { frame, key = '' }) => sum + frame.length + itemBytes(key), 0);
  return { items, parts: events.map(({ frame }) => frame), bytes };
}

/** A character of JSON takes six bytes at most; numbers have up to 24 digits. */
function itemBytes(...texts: readonly string[]): number {
  return texts.reduce((sum, { length }) => sum + 6 * length, 80);
}

/** As many of the first entries as fit into so many bytes of a message, but at least one. */
export function firstOf<E extends LogEntry | LogChange>(
  entries: readonly E[],
  maxBytes: number,
): readonly E[] {
  let left = maxBytes;
  const end = entries.findIndex((entry, i) => {
    left -=
      'frame' in entry
        ? entry.frame.length + itemBytes(entry.topic, entry.key ?? '')
        : itemBytes(entry.topic);
    return left < 0 && i > 0;
  });
  return end === -1 ? entries : entries.slice(0, end);
}

/** @throws {MessageError} where it is not what `packNew` makes. */
export function unpackNew(items: unknown, bytes: Buffer): NewEntry[] {
  const frames = new Frames(bytes);
  const events = listOf(items).map((item): NewEntry => {
    const [at, key, length] = listOf(item);
    // A copy: it is kept for longer than the chunk of which it is a part.
    return { at: number(at), key: keyOf(key), frame: Buffer.from(frames.next(length)) };
  });
  frames.end();
  return events;
}

/** Frames that lie one behind the other. */
class Frames {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  next(length: unknown): Buffer {
    const end = this.#at + whole(length, 0);
    if (end > this.#bytes.length) throw badMessage('it has fewer bytes than its head states');
    const frame = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return frame;
  }

  end(): void {
    if (this.#at < this.#bytes.length) throw badMessage('it has more bytes than its head states');
  }
}

/** More characters than a log in memory can keep. */
const MAX_KEY_LENGTH = 65_534;

function keyOf(value: unknown): string | undefined {
  if (value === null) return undefined;
  const key = text(value);
  if (key.length > MAX_KEY_LENGTH) throw badMessage(`a key has ${key.length} characters`);
  return key;
}

// ── members of a head ─────────────────────────────────────────────────────────────────────────────────────

/** @throws {MessageError} for anything but a list. */
export function listOf(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw badMessage('a list is missing');
}

/** @throws {MessageError} for anything but a string. */
export function text(value: unknown): string {
  if (typeof value === 'string') return value;
  throw badMessage('a text is missing');
}

/** @throws {MessageError} for anything but a whole number from `least` on. */
export function whole(value: unknown, least: number): number {
  if (Number.isSafeInteger(value) && (value as number) >= least) return value as number;
  throw badMessage('a whole number is missing');
}

function number(value: unknown): number {
  if (Number.isFinite(value)) return value as number;
  throw badMessage('a number is missing');
}

export function isChange(value: unknown): value is TopicChange {
  return value === 'end' || value === 'reopen' || value === 'delete';
}
