// What a hub asks of a log: a place where events are kept beyond the memory of one process.
// Stands alone: copy this file by itself.

/** An event as a log keeps it. */
export interface LogEntry {
  /** Its place in the log's order: above that of every entry before it. */
  readonly seq: number;
  readonly topic: string;
  /** When it was published, in milliseconds. */
  readonly at: number;
  /** The event as it goes over the wire, without its id, in UTF-8. Must not be changed. */
  readonly frame: Uint8Array;
  /** Names the value that the event updates; `undefined` where no later event replaces it. */
  readonly key: string | undefined;
}

/** What can happen to a topic, besides an event. */
export type TopicChange = 'end' | 'reopen' | 'delete';

/** A change of a topic in a shared order, where it has a place among the events. */
export interface LogChange {
  readonly seq: number;
  readonly topic: string;
  readonly change: TopicChange;
}

/** The events of some topics that a log holds at one moment. */
export interface LogPage {
  /** Oldest first, all topics merged by seq. */
  readonly entries: readonly LogEntry[];
  /**
   * Up to this seq, `entries` has all events of the topics after the cursor, except those that `dropped`
   * states. Where there are no more entries: at least the log's head.
   */
  readonly until: number;
  /** For each topic that has dropped events after the cursor: the newest seq that was dropped. */
  readonly dropped: readonly { readonly topic: string; readonly seq: number }[];
  /**
   * Up to this seq the log was shortened from outside: it holds no event from before, and does not know of
   * which topics they were.
   */
  readonly truncated?: number | undefined;
}

/** What a log knows of a topic, also of one whose events are gone. */
export interface TopicRecord {
  readonly topic: string;
  /** The seq of its newest event, held or not. */
  readonly last: number;
  /** The newest seq that was dropped or deleted; 0 where nothing was. */
  readonly dropped: number;
  readonly ended: boolean;
  /** It was deleted, and neither published to nor ended since. */
  readonly deleted?: boolean | undefined;
  /** How many events are held, and the bytes of their frames. */
  readonly events: number;
  readonly bytes: number;
}

/** A part of a log's order. Ids of events say how far they are from `base`. */
export interface LogEpoch {
  /** A whole number ≥ 1 that no other part of any log has. */
  readonly epoch: number;
  /** The seq of `<epoch>-0`, the place before its first event. */
  readonly base: number;
  /**
   * The newest seq that the log held when the next epoch began, at least `base` and below the next `base`.
   * `undefined` in the last epoch.
   */
  readonly end?: number | undefined;
}

/** Which part of a log's topics to list: those after a name, by name. */
export interface ListOptions {
  readonly after?: string | undefined;
  readonly limit?: number | undefined;
}

/** What all logs answer. Those of a shared order answer with promises. */
interface LogAnswers<Kind extends 'own' | 'shared'> {
  /**
   * Returns about `maxBytes` of frames after a seq, but at least one entry where there is one. May answer
   * with a promise. A page that is returned without one is delivered in the same turn.
   *
   * With `newestOnly` it should leave out each entry that a newer one of the same topic and key replaces, on
   * this page or any later one. Otherwise a conflating subscriber gets the newest of each page.
   */
  read(
    topics: readonly string[],
    after: number,
    maxBytes: number,
    options: { readonly newestOnly: boolean },
  ): LogPage | Promise<LogPage>;
  /** The records of these topics, in any order; none for a topic that the log does not know. */
  find(topics: readonly string[]): Answer<Kind, readonly TopicRecord[]>;
  /**
   * The records of all topics by name: those after a name, at most `limit`. A deleted topic is not among them
   * until something is published to it.
   */
  list(options: ListOptions): Answer<Kind, readonly TopicRecord[]>;
  /** The greatest seq after which the topics together have `count` events, or all where they have fewer. */
  beforeNewest(topics: readonly string[], count: number): Answer<Kind, number>;
  /** Called when the hub closes. Nothing is asked afterwards. */
  close?(): Answer<Kind, void>;
}

type Answer<Kind extends 'own' | 'shared', T> = Kind extends 'own' ? T : Promise<T>;

/** What a log keeps of an append that had an idempotency key. */
export interface AppendRecord {
  readonly key: string;
  readonly digest: string;
  /** The seq of the first event, and how many there were. */
  readonly first: number;
  readonly count: number;
}

/**
 * A log to which one hub writes, and which gives out no seqs itself: SQLite, a file. It answers at once.
 *
 * The hub collects the events of a turn and hands them over in one call of `append`, before it delivers any of
 * them. What `append` refuses is not delivered, and its seqs are not used again.
 */
export interface OwnLog extends LogAnswers<'own'> {
  readonly order?: 'own' | undefined;
  /**
   * The parts of its order, oldest first. A log begins a new one where it may have lost events that were
   * appended, such as at a loss of power: a client with an id of an older one gets what is left of that, and
   * then a gap. It may forget the oldest parts.
   */
  readonly epochs: readonly LogEpoch[];
  /** The newest seq held when the hub opens it. */
  readonly head: number;
  /**
   * Keeps all entries and records, or nothing and throws. Seqs increase; where an earlier call has failed, some
   * are missing. Must not return a promise.
   *
   * After it has thrown, it is called without entries, to learn whether it can write again. It then should try
   * to write something, and throw where it cannot.
   */
  append(entries: readonly LogEntry[], records: readonly AppendRecord[]): void;
  /**
   * The record of an append with this idempotency key. It may forget those that are old. A log without this member
   * keeps no records: a request that is sent again after a restart is then published twice.
   */
  recall?(key: string): AppendRecord | undefined;
  /**
   * Changes a topic, at once. `end` also ends a topic that was deleted, or that the log does not know: the hub asks
   * for it where somebody waits for the first event. `delete` drops its events and keeps its record, so that older ids get a gap, and lets
   * it take events again where it had ended.
   * @returns whether there was something to change.
   */
  change(topic: string, change: TopicChange): boolean;
}

/** An event that has no place yet. */
export interface NewEntry {
  readonly at: number;
  /** The event as it goes over the wire, without its id, in UTF-8. */
  readonly frame: Uint8Array;
  readonly key: string | undefined;
}

/** A request that is sent again must have the same effect as one. */
export interface AppendOptions {
  /**
   * `key` names the request, and `digest` stands for all that is asked. A second request with both gets the
   * answer of the first. One with the same key and another digest is refused: code
   * `ERR_SSE_IDEMPOTENCY_CONFLICT`.
   */
  readonly idempotency?: { readonly key: string; readonly digest: string } | undefined;
  /**
   * Appends only behind this event: the id of the topic's newest one, held or not. `<epoch>-0` where it has had none in
   * this epoch, and any other is refused in a new one. Of several writers who know the same event, one gets its place; the
   * others are refused: code `ERR_SSE_TOPIC_MOVED`. Needs a log that hubs share.
   */
  readonly behind?: string | undefined;
}

/** Where the events of an append are: `first`, and those that follow it. */
export interface Appended {
  readonly epoch: number;
  /** The seq of the first event, counted from the beginning of its epoch. */
  readonly first: number;
  readonly count: number;
}

/**
 * A log that several hubs write to and follow, and that gives out the seqs: Redis, the owner among several
 * processes. Its seqs count from the beginning of the epoch that it told last. Entries arrive through the
 * intake, whoever has appended them, this hub included.
 */
export interface SharedLog extends LogAnswers<'shared'> {
  readonly order: 'shared';
  /**
   * It keeps no events. A hub then answers what is asked of its history from its memory alone, tells its clients
   * in `sluice:ready` that they may miss events, and takes no id of another hub for one of the future.
   */
  readonly lossy?: boolean | undefined;
  /** Why it takes no events at present, although it can be read: a full disk, for example. For `hub.failure`. */
  readonly failure?: Error | undefined;
  /** Called once, when the hub opens it. From then on it tells the intake all that happens, in order. */
  follow(intake: LogIntake): void;
  /**
   * Appends all events or none. Resolves once they are in the log and this hub's intake has accepted them, so
   * that a publisher can read what it has written.
   *
   * Rejects with code `ERR_SSE_LOG_UNAVAILABLE` where the events are certainly not in the log and never will
   * be, and with `ERR_SSE_OUTCOME_UNKNOWN` where they may be in it. A topic that has ended takes none: code
   * `ERR_SSE_TOPIC_ENDED`, status 409.
   */
  append(topic: string, events: readonly NewEntry[], options?: AppendOptions): Promise<Appended>;
  /**
   * Changes a topic that the log knows. @returns whether there was something to change. Rejects as `append` does.
   */
  change(topic: string, change: TopicChange): Promise<boolean>;
  /**
   * Milliseconds since this log last knew that its intake had all that there was; `undefined` where it cannot tell.
   * While nothing is published it grows from one look to the next. A client whose id is ahead of the intake is not
   * told of a gap before this was after it came.
   */
  readonly lag?: number | undefined;
}

/** What a shared log tells its hub. No call throws. */
export interface LogIntake {
  /**
   * The next entries: contiguous seqs in the epoch that was told last. A second call with an entry that was
   * accepted or skipped before is ignored.
   */
  accept(entries: readonly (LogEntry | LogChange)[]): void;
  /** What lies up to this seq was not received. Its events are read from the log where a client needs them. */
  skip(seq: number): void;
  /**
   * The order begins, or goes on in another epoch: the next entry is `<epoch>-1`, or after `skip`. Of the epoch
   * before, the log has kept what it had up to `oldEnd`, and may have lost what came after that.
   */
  renew(epoch: number, oldEnd: number): void;
  /** The log cannot be reached: streams stay open, and appends fail at once. */
  away(error: unknown): void;
  /** It can be reached again. */
  back(): void;
}

/** Where a hub keeps events beyond its memory. */
export type Log = OwnLog | SharedLog;

/** The error of an append that did not happen, or may not have happened. */
export interface LogError extends Error {
  readonly code: 'ERR_SSE_LOG_UNAVAILABLE' | 'ERR_SSE_OUTCOME_UNKNOWN';
  readonly status: 503;
}

/** The events are certainly not in the log, and never will be. */
export function logUnavailable(message: string, cause?: unknown): LogError {
  return logError('ERR_SSE_LOG_UNAVAILABLE', message, cause);
}

/** The events may be in the log or not. */
export function outcomeUnknown(message: string, cause?: unknown): LogError {
  return logError('ERR_SSE_OUTCOME_UNKNOWN', message, cause);
}

/** A topic that has ended takes no events. */
export function topicEnded(topic: string): Error & { readonly code: string; readonly status: number } {
  const error = new Error(`the topic "${topic}" has ended`);
  return Object.assign(error, { code: 'ERR_SSE_TOPIC_ENDED', status: 409 });
}

/** The topic's newest event is not the one behind which an append was to come. */
export function topicMoved(topic: string): Error & { readonly code: string; readonly status: number } {
  const error = new Error(`the newest event of the topic "${topic}" is another one than \`behind\` names`);
  return Object.assign(error, { code: 'ERR_SSE_TOPIC_MOVED', status: 409 });
}

function logError(code: LogError['code'], message: string, cause: unknown): LogError {
  return Object.assign(new Error(message, { cause }), { code, status: 503 as const });
}

/** What a hub wants of its log when that fails. */
export type LogTask = 'append' | 'read' | 'follow';

/** Makes a function that warns of failures: at most once a minute of each kind, for one that is away always fails. */
export function warnOfLog(): (error: unknown, context: { readonly task: LogTask }) => void {
  const warned = new Map<LogTask, number>();
  return (error, { task }) => {
    if (performance.now() - (warned.get(task) ?? -Infinity) < 60_000) return;
    warned.set(task, performance.now());
    const detail = String((error as Error | undefined)?.stack ?? error);
    process.emitWarning(`the log of a hub failed to ${task}`, { code: 'ERR_SSE_LOG_FAILED', detail });
  };
}
