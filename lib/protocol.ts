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

// ── control events ────────────────────────────────────────────────────────────────────────────────────────

/**
 * The types of the events that a hub or a stream sends by itself. Applications cannot publish these names.
 */
export const controlEvents = {
  /** The first event of each hub stream. Its id is the position from which delivery continues. */
  ready: 'sluice:ready',
  /** Events that this client will never receive. Its id is the position from which delivery continues. */
  gap: 'sluice:gap',
  /** The last event: the topics have ended, or the source of the stream is exhausted. */
  end: 'sluice:end',
  /** The last event where the source of the stream failed. */
  error: 'sluice:error',
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

/** A control event, in the form that `encode` takes. */
export interface ControlEvent {
  readonly id: string;
  readonly event: string;
  readonly data: string;
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

/** `sluice:end` of a hub stream. */
export function endEvent(id: string, topics: readonly string[]): ControlEvent {
  return { id, event: controlEvents.end, data: JSON.stringify({ topics }) };
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
