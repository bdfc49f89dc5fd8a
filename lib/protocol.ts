// Writes, reads and compares the ids of a hub, its control events and the names of its topics.
// Stands alone: copy this file by itself. Runs in Node, browsers, workers, Deno and Bun.
//
// An id is `<epoch>-<seq>`. The epoch names one life of a hub's order; `seq` counts its events from 1,
// without holes.

/** The place of one event in a hub's order. */
export interface EventId {
  readonly epoch: number;
  readonly seq: number;
}

/** The id as it is sent: `1795408776829004-17`. */
export function formatId(epoch: number, seq: number): string {
  return `${epoch}-${seq}`;
}

/**
 * Reads an id. `undefined` for anything that `formatId` does not write: leading zeros, more than 16 digits,
 * numbers above 2⁵³ − 1. So each place has exactly one spelling.
 */
export function parseId(text: string | null | undefined): EventId | undefined {
  const [, epochDigits, seqDigits] = ID.exec(text ?? '') ?? [];
  if (epochDigits === undefined) return undefined;
  const [epoch, seq] = [Number(epochDigits), Number(seqDigits)];
  return Number.isSafeInteger(epoch) && Number.isSafeInteger(seq) ? { epoch, seq } : undefined;
}

const ID = /^(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})$/;

/**
 * Compares two ids of one epoch: below 0 when `a` comes first, 0 when they are the same, above 0 when `b`
 * comes first. `undefined` when the epochs differ or one of the two is no id: then neither comes first.
 */
export function compareIds(a: string | null | undefined, b: string | null | undefined): number | undefined {
  const [one, other] = [parseId(a), parseId(b)];
  return one !== undefined && one.epoch === other?.epoch ? one.seq - other.seq : undefined;
}

/**
 * An id that no hub gives to an event, because no epoch is 0. `sluice:ready` carries it to a client whose own
 * id cannot be read. If the connection breaks before the gap arrives, the client returns with this id and
 * gets the gap again.
 */
export const unreadableId = '0-0';

/**
 * The longest id that a reader resumes from, in bytes of UTF-8. Hubs give ids of at most 33 characters; those
 * that are relayed from elsewhere are longer. Servers refuse requests with headers of some 8 KiB.
 */
export const maxIdBytes = 1024;

/**
 * Whether a reader can resume from a text: `Last-Event-ID` can carry it. It has at most {@link maxIdBytes}
 * and neither a control character but the tab nor half a surrogate pair, which UTF-8 cannot express.
 * Anything but a string cannot be sent.
 */
export function isSendableId(id: unknown): id is string {
  if (typeof id !== 'string' || id.length > maxIdBytes || UNSENDABLE.test(id)) return false;
  return id.length <= maxIdBytes / 3 || new TextEncoder().encode(id).length <= maxIdBytes;
}

// By the flag `u`, a pair of surrogates is one character, so that the range has only halves.
const UNSENDABLE = /[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]/u;

// ── control events ────────────────────────────────────────────────────────────────────────────────────────

/**
 * The types of the events that a hub or a stream sends by itself. Applications cannot publish these names.
 */
export const controlEvents = {
  /** The first event of each hub stream. Its id is the position from which delivery continues. */
  ready: 'sluice:ready',
  /** Events that this client will never receive. Its id is the position from which delivery continues. */
  gap: 'sluice:gap',
  /** Part of a heartbeat. Its id is the position of the stream, which has moved since the last heartbeat. */
  position: 'sluice:position',
  /** The last event: the topics have ended, or the source of the stream is exhausted. */
  end: 'sluice:end',
  /** The last event where the source of the stream failed. */
  error: 'sluice:error',
  /**
   * The only event of a stream that was refused: the client may come back after its `retry`. It has no id, so
   * the client keeps its place.
   */
  refused: 'sluice:refused',
} as const;

/** The prefix of the types of all control events, reserved for future ones too. */
export const controlPrefix = 'sluice:';

/** Whether an event type is reserved for control events. */
export function isControlEvent(type: string | undefined): boolean {
  return type?.startsWith(controlPrefix) === true;
}

/**
 * Whether a reader could take an event type for that of a control event. Some readers trim types, and some
 * compare them without their case, so applications cannot publish these either.
 */
export function isReservedEvent(type: string | undefined): boolean {
  return isControlEvent(type?.trim().toLowerCase());
}

/**
 * Why events are missing.
 *
 * - `evicted`: they are older than the history that is kept.
 * - `unknown-epoch`: the client's id belongs to another life of the hub, or to another hub.
 * - `ahead`: the client's id is newer than anything published.
 * - `truncated`: the log behind the hub was shortened from outside.
 * - `store-changed`: the log behind the hub was replaced by another one.
 * - `malformed`: the client's id cannot be read.
 */
export type GapReason = (typeof gapReasons)[number];

export const gapReasons = [
  'evicted',
  'unknown-epoch',
  'ahead',
  'truncated',
  'store-changed',
  'malformed',
] as const;

/** The data of `sluice:gap`. */
export interface Gap {
  /** A {@link GapReason}, or `unknown` from a server that names none. */
  readonly reason: GapReason | 'unknown' | (string & {});
  /** The client's last id, as the server understood it; `null` where it could not be read. */
  readonly from: string | null;
  /** The newest event that is lost. */
  readonly to: string;
  /** The topics that lost events; empty where the server did not name them. */
  readonly topics: readonly string[];
}

/** The data of `sluice:ready`. A server may add further members. */
export interface Ready {
  /** The topics of the stream; empty where the server did not name them. */
  readonly topics: readonly string[];
  /** How to recognise a dead connection; `undefined` where the server promises no heartbeats. */
  readonly heartbeat: HeartbeatTerms | undefined;
}

/** A connection is dead after `missed + 1` intervals without a byte. */
export interface HeartbeatTerms {
  /** Milliseconds: the longest silence between two heartbeats. */
  readonly interval: number;
  /** How many heartbeats may fail to arrive. */
  readonly missed: number;
}

/** The data of `sluice:refused`: the members of the JSON answer that other clients get with a status. */
export interface Refused {
  /** Why, as a word: `server-full`, `too-fast`, …; `unknown` from a server that names none. */
  readonly error: string;
  /** The same for people. */
  readonly message: string;
}

/** A control event, in the form that `encode` takes. */
export interface ControlEvent {
  readonly id: string;
  readonly retry?: number;
  readonly event: string;
  readonly data: string;
}

/** `sluice:refused`, in the form that `encode` takes. */
export interface RefusedEvent {
  readonly retry: number;
  readonly event: string;
  readonly data: string;
}

/**
 * How control events are sent, for readers that know only the events of their own protocol. Each keeps its id
 * and its retry in any case, so that positions stay true.
 *
 * - `events` (default): as they are.
 * - `comments`: as comments (`: sluice:gap {…}`), which no reader hands to its application. It gives up that
 *   the application hears of gaps and of the end, and that a client knows the heartbeats.
 * - A function: as the event that it returns, such as an error of the reader's own protocol for a gap. As a
 *   comment where it returns `null`: a control event is never left out, since a gap must not be silent.
 */
export type Controls =
  | 'events'
  | 'comments'
  | ((event: ControlEvent | RefusedEvent) => ControlStandIn | null);

/** An event in the place of a control event, in the form that `encode` takes. */
export type ControlStandIn =
  | { readonly event?: string | undefined; readonly data: string }
  | { readonly event?: string | undefined; readonly data?: undefined; readonly json: unknown };

/** What `encode` takes to send a control event as `controls` states. */
export interface SentControl {
  readonly comment?: string;
  readonly retry?: number | undefined;
  readonly id?: string | undefined;
  readonly event?: string | undefined;
  readonly data?: string | undefined;
  readonly json?: unknown;
}

/**
 * Applies {@link Controls} to a control event.
 * @throws {TypeError} for other `controls`.
 */
export function sentControl(event: ControlEvent | RefusedEvent, controls: Controls | undefined): SentControl {
  if (controls === undefined || controls === 'events') return event;
  checkControls(controls);
  const { id, retry } = event as { id?: string; retry?: number };
  const standIn = controls === 'comments' ? null : controls(event);
  if (standIn === null) return { comment: `${event.event} ${event.data}`, retry, id };
  const { event: type, data } = standIn;
  return data === undefined
    ? { retry, id, event: type, json: standIn.json }
    : { retry, id, event: type, data };
}

/** @throws {TypeError} for anything but {@link Controls} or `undefined`. */
export function checkControls(controls: unknown): void {
  if (controls === undefined || controls === 'events' || controls === 'comments') return;
  if (typeof controls === 'function') return;
  throw new TypeError(`\`controls\` must be "events", "comments" or a function, got ${String(controls)}`);
}

/** `sluice:ready`, with `extra` in its data beside the topics. */
export function readyEvent(
  id: string,
  topics: readonly string[],
  extra?: Readonly<Record<string, unknown>>,
): ControlEvent {
  return { id, event: controlEvents.ready, data: JSON.stringify({ ...extra, topics }) };
}

/** `sluice:gap`; `id` is where delivery continues, which may lie before `gap.to`. */
export function gapEvent(id: string, { reason, from, to, topics }: Gap): ControlEvent {
  return { id, event: controlEvents.gap, data: JSON.stringify({ reason, from, to, topics }) };
}

/**
 * `sluice:position`: `id` is a position that the stream has reached without an event. It has a type and data
 * although the id alone would do for readers that keep to the standard: others make an empty message, of no
 * type, of a block without data.
 */
export function positionEvent(id: string): ControlEvent {
  return { id, event: controlEvents.position, data: '{}' };
}

/** `sluice:end` of a hub stream. */
export function endEvent(id: string, topics: readonly string[]): ControlEvent {
  return { id, event: controlEvents.end, data: JSON.stringify({ topics }) };
}

/**
 * `sluice:refused`. A browser's EventSource gives up for good on any other answer than an event stream, and
 * some readers lose a `retry` in a block without data: so the refusal is one block, with both.
 *
 * @param retry - Milliseconds before which it is of no use to come back.
 */
export function refusedEvent(retry: number, { error, message }: Refused): RefusedEvent {
  return { retry, event: controlEvents.refused, data: JSON.stringify({ error, message }) };
}

/** Reads the data of `sluice:ready`. Ignores members that are missing or of another type; never throws. */
export function readReady(data: string): Ready {
  const { topics, heartbeat } = parseObject(data);
  const { interval, missed } = Object(heartbeat) as Record<string, unknown>;
  const isPromised = isDuration(interval) && isDuration(missed);
  return { topics: strings(topics), heartbeat: isPromised ? { interval, missed } : undefined };
}

/** Reads the data of `sluice:gap`; `id` is used as `to` where the data has none. Never throws. */
export function readGap(data: string, id: string): Gap {
  const { reason, from, to, topics } = parseObject(data);
  return {
    reason: typeof reason === 'string' ? reason : 'unknown',
    from: typeof from === 'string' ? from : null,
    to: typeof to === 'string' ? to : id,
    topics: strings(topics),
  };
}

/** Reads the data of `sluice:refused`. Never throws. */
export function readRefused(data: string): Refused {
  const { error, message } = parseObject(data);
  return {
    error: typeof error === 'string' ? error : 'unknown',
    message: typeof message === 'string' ? message : '',
  };
}

function parseObject(json: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(json)) as Record<string, unknown>;
  } catch {
    return {};
  }
}

function isDuration(value: unknown): value is number {
  return typeof value === 'number' && value >= 0;
}

function strings(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
}

// ── topics ────────────────────────────────────────────────────────────────────────────────────────────────

/** The rule of {@link isTopic} in words, for error messages. */
export const topicRule = '1 to 200 characters of A–Z a–z 0–9 . _ ~ : -';

/** Whether a string can be the name of a topic: 1 to 200 of `A–Z a–z 0–9 . _ ~ : -`. */
export function isTopic(name: unknown): name is string {
  return typeof name === 'string' && TOPIC.test(name);
}

const TOPIC = /^[A-Za-z0-9._~:-]{1,200}$/;
