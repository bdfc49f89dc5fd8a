// Keeps quiet streams alive: one timer for all, and a comment to each stream that was silent for too long.
// Stands alone: copy this file by itself.

/** The members of a stream that are used. Node's `Writable`s fit. */
export interface HeartbeatSink {
  readonly closed: boolean;
  /** While true no heartbeat is sent: the stream is not silent, only slow. */
  readonly writableNeedDrain: boolean;
  /**
   * Bytes written so far; growth means activity. A sink without it counts as silent and gets every heartbeat.
   */
  readonly bytesWritten?: number | undefined;
  write(chunk: Uint8Array): boolean;
}

/** Decides the interval of some streams; each silence that ends is reported to it. `adaptive.ts` has one. */
export interface HeartbeatGroup {
  /** Milliseconds; read anew whenever a stream of the group is examined. */
  readonly interval: number;
  /** Called when a connection has survived a silence of this many milliseconds. */
  survived(silence: number): void;
  /** Called when a connection was lost after a silence of this many milliseconds. */
  lost(silence: number): void;
}

/** The clock; replace it in tests. */
export interface HeartbeatClock {
  now(): number;
  setInterval(callback: () => void, interval: number): NodeJS.Timeout;
  clearInterval(timer: NodeJS.Timeout): void;
}

export interface HeartbeatOptions<Sink extends HeartbeatSink = HeartbeatSink> {
  /** Milliseconds: the longest silence. Default 15,000, below the limit of every known proxy. */
  interval?: number | undefined;
  /**
   * Fraction of the interval by which the first heartbeat of a silence may come early, so that streams that
   * fell silent together do not all get theirs at once; default 0.2.
   */
  jitter?: number | undefined;
  /**
   * Writes one heartbeat to the sink: whole events, or comments with one line end each. Default: writes the
   * comment `:\n`. A blank line after it would make an empty message in readers that do not keep to the
   * standard. Its result is ignored.
   */
  beat?: ((sink: Sink) => unknown) | undefined;
  /**
   * The type of an event to send instead of a comment, for readers that must see heartbeats. Excludes `beat`.
   */
  event?: string | undefined;
  /**
   * Whether a closed sink was lost rather than ended by this side; only losses are reported to its group.
   * Default: it was lost unless its `writableEnded` is true.
   */
  isLost?: ((sink: Sink) => boolean) | undefined;
  /**
   * Receives what a sink, its `beat` or its group throws; by default it is ignored. Other sinks are not
   * affected.
   */
  onError?: ((error: unknown, context: { readonly sink: Sink }) => void) | undefined;
  clock?: HeartbeatClock | undefined;
}

/** Writes one heartbeat to a sink: a function, or an object that has it as a method. */
export type HeartbeatBeat<Sink extends HeartbeatSink = HeartbeatSink> =
  | ((sink: Sink) => unknown)
  | { beat(sink: Sink): unknown };

/** Options of one stream. */
export interface HeartbeatSinkOptions<Sink extends HeartbeatSink = HeartbeatSink> {
  /** Milliseconds; default the heartbeat's own. */
  interval?: number | undefined;
  /** Default the heartbeat's own. An object may hold what a closure would, in half the memory. */
  beat?: HeartbeatBeat<Sink> | undefined;
  /** Decides the interval in place of `interval`. */
  group?: HeartbeatGroup | undefined;
}

/**
 * Intervals for kinds of networks, and how many heartbeats in a row may be missed before the reader gives the
 * connection up. Announce both to the reader, so that its watchdog matches.
 */
export const heartbeatProfiles: Readonly<
  Record<'mobile' | 'wifi' | 'lan', Readonly<{ interval: number; missed: number }>>
> = Object.freeze({
  mobile: Object.freeze({ interval: 30_000, missed: 3 }),
  wifi: Object.freeze({ interval: 60_000, missed: 2 }),
  lan: Object.freeze({ interval: 120_000, missed: 1 }),
});

const MAX_INTERVAL = 2 ** 31 - 1;
// All members are scanned 64 times per interval, so that heartbeats are on time and spread out. A scan reads
// only `#looks`, a packed array. It examines a stream itself, which is colder memory and most of a sweep's
// cost, only when a heartbeat is due or a third of the interval has passed; an eighth for a group, which
// measures silences (bench/heartbeat).
const SCANS_PER_INTERVAL = 64;
const LOOKS_PER_INTERVAL = 3;
const LOOKS_PER_GROUP_INTERVAL = 8;

interface Member<Sink extends HeartbeatSink> {
  readonly sink: Sink;
  readonly interval: number;
  readonly beat: HeartbeatBeat<Sink>;
  readonly group: HeartbeatGroup | undefined;
  /** Its index in `#order` and `#looks`. */
  index: number;
  /**
   * The next heartbeat comes early by this many thousandths of the interval; 0 only where nothing was written
   * since the last one.
   */
  early: number;
  /** `bytesWritten` when it was last examined. */
  bytes: number | undefined;
  /** Not examined yet: bytes written until then are its greeting. */
  isNew: boolean;
  /**
   * When it was last examined. This and the next two are whole milliseconds, which V8 stores without
   * allocation.
   */
  seen: number;
  /** Since when it has been silent. */
  since: number;
  /** The silence that the last heartbeat ended; 0 once the connection is known to have survived it. */
  endedSilence: number;
}

/**
 * Sends a heartbeat to every stream before it has been silent for longer than `interval`. A stream that
 * writes at least every third of an interval gets none, except one at the beginning if it was silent before.
 *
 * The timer is unref'd and runs only while there are streams. A stream that takes no bytes is skipped and
 * examined again, a closed stream is dropped, and what a stream throws goes to `onError`; none of these
 * affects other streams.
 *
 * Choose the interval below the timeout of every proxy on the way. Intervals below about 5 s keep TCP from
 * noticing a dead peer.
 */
export class Heartbeat<Sink extends HeartbeatSink = HeartbeatSink> {
  /** Milliseconds: the longest silence of a stream that has no interval of its own. */
  readonly interval: number;
  readonly #jitter: number;
  readonly #beat: (sink: Sink) => unknown;
  readonly #isLost: (sink: Sink) => boolean;
  readonly #onError: (error: unknown, context: { readonly sink: Sink }) => void;
  readonly #clock: HeartbeatClock;
  readonly #members: Map<Sink, Member<Sink>> = new Map();
  // The same members in an array, scanned from the last to the first. Removing a member moves the last one,
  // which the scan has passed, into its place, so that none is missed.
  readonly #order: Member<Sink>[] = [];
  // When to examine each next: packed numbers, so that a scan of 15,000 reads 120 KB and not the members.
  readonly #looks: number[] = [];
  #next = -1;
  #finest = Infinity;
  #timer: NodeJS.Timeout | undefined;
  #ticked = 0;
  #sent = 0;
  #skipped = 0;
  #failed = 0;

  /** @throws {TypeError | RangeError} naming the option and its value. */
  constructor(options: HeartbeatOptions<Sink> = {}) {
    const { interval = 15_000, jitter = 0.2, event, beat, isLost, onError, clock } = options;
    if (event !== undefined && beat !== undefined)
      throw new TypeError('`event` and `beat` exclude each other');
    if (!(typeof jitter === 'number' && jitter >= 0 && jitter <= 1))
      throw new RangeError(`\`jitter\` must be from 0 to 1, got ${jitter}`);
    const bytes = event === undefined ? COMMENT : eventOf(event);
    this.interval = checkInterval(interval);
    this.#jitter = jitter;
    this.#beat = beat ?? ((sink) => sink.write(bytes));
    this.#isLost = isLost ?? isNotEnded;
    this.#onError = onError ?? ignore;
    this.#clock = clock ?? SYSTEM_CLOCK;
  }

  /** How many streams are kept alive. */
  get size(): number {
    return this.#members.size;
  }

  /** Heartbeats sent so far. */
  get sent(): number {
    return this.#sent;
  }

  /** Heartbeats not sent because the stream took no bytes. */
  get skipped(): number {
    return this.#skipped;
  }

  /** Heartbeats that failed: the sink, its `beat` or its group threw. */
  get failed(): number {
    return this.#failed;
  }

  /**
   * Adds a stream; ignores a closed one. The first heartbeat comes at a random time within the interval, so
   * that streams opened together drift apart; within its last three fifths where the stream begins with a
   * greeting.
   *
   * @throws {RangeError} when its `interval`, or that of its group, is out of range.
   */
  add(sink: Sink, options: HeartbeatSinkOptions<Sink> = {}): void {
    const { interval = this.interval, beat = this.#beat, group } = options;
    checkInterval(interval);
    if (group !== undefined) checkInterval(group.interval);
    this.#forget(sink);
    if (sink.closed) return;
    const now = this.#now();
    const member = {
      sink,
      interval,
      beat,
      group,
      index: this.#order.length,
      early: earlyBy(1000),
      bytes: sink.bytesWritten,
      isNew: true,
      seen: now,
      since: now,
      endedSilence: 0,
    };
    this.#members.set(sink, member);
    this.#order.push(member);
    this.#looks.push(now);
    this.#run(group?.interval ?? interval);
  }

  /**
   * Removes a stream; `false` if it was not there. If the stream is closed and was lost, the loss is reported
   * to its group.
   */
  delete(sink: Sink): boolean {
    const member = this.#forget(sink);
    if (member?.group !== undefined && sink.closed) this.#learn(member, this.#now());
    return member !== undefined;
  }

  /** Removes all streams and stops the timer. Adding a stream starts it again. */
  stop(): void {
    this.#members.clear();
    this.#order.length = 0;
    this.#looks.length = 0;
    this.#halt();
  }

  #forget(sink: Sink): Member<Sink> | undefined {
    const member = this.#members.get(sink);
    if (member === undefined) return undefined;
    this.#members.delete(sink);
    const last = this.#order.pop()!;
    const look = this.#looks.pop()!;
    if (last !== member) {
      this.#order[member.index] = last;
      this.#looks[member.index] = look;
      last.index = member.index;
    }
    if (this.#members.size === 0) this.#halt();
    return member;
  }

  /** Makes the timer run often enough for this interval. */
  #run(interval: number): void {
    if (interval >= this.#finest) return;
    this.#halt();
    this.#finest = interval;
    this.#ticked = this.#now();
    const tick = Math.max(1, interval / SCANS_PER_INTERVAL);
    this.#timer = this.#clock.setInterval(() => this.#tick(), tick);
    this.#timer.unref();
  }

  #halt(): void {
    if (this.#timer !== undefined) this.#clock.clearInterval(this.#timer);
    this.#timer = undefined;
    this.#finest = Infinity;
  }

  /** Scans a share of the members, in proportion to the time since the last tick. */
  #tick(): void {
    const now = this.#now();
    const step = this.#finest / SCANS_PER_INTERVAL;
    const share = Math.min(1, (now - this.#ticked) / step);
    this.#ticked = now;
    for (let count = Math.ceil(this.#order.length * share); count > 0; count--) {
      if (this.#next < 0 || this.#next >= this.#order.length) this.#next = this.#order.length - 1;
      const index = this.#next--;
      if (now < this.#looks[index]!) continue;
      const member = this.#order[index];
      if (member === undefined) return;
      try {
        this.#examine(member, now, step);
      } catch (error) {
        this.#failed++;
        this.#onError(error, { sink: member.sink });
      }
    }
  }

  #examine(member: Member<Sink>, now: number, step: number): void {
    const { sink, group } = member;
    if (sink.closed) {
      this.delete(sink);
      return;
    }
    this.#noteWrites(member);
    member.isNew = false;
    member.seen = now;
    if (group !== undefined && member.endedSilence > 0 && now - member.since >= step / 2)
      survived(member, group);
    const interval = group === undefined ? member.interval : intervalOf(group, member);
    if (interval < this.#finest) this.#run(interval);
    const limit = interval - (interval * member.early) / 1000;
    // The next scan comes after one step, or after two if a removal moved this member. A group probes
    // intervals that may cost connections, so its heartbeats keep twice that distance.
    const margin = (group === undefined ? 2 : 4) * step;
    const due = member.since + limit - margin;
    if (now >= due) this.#send(member, now, interval - margin);
    else this.#examineAt(member, Math.min(due, now + interval / looksOf(member)));
  }

  /** Does nothing for a member that was removed meanwhile: its index belongs to another one. */
  #examineAt(member: Member<Sink>, time: number): void {
    if (this.#order[member.index] === member) this.#looks[member.index] = time;
  }

  #send(member: Member<Sink>, now: number, pause: number): void {
    const { sink, group, beat } = member;
    const silence = now - member.since;
    member.since = now;
    if (group === undefined) {
      // Nothing was written since its last heartbeat, so it is examined again only when the next one is due.
      const isSilent = member.early === 0;
      this.#examineAt(
        member,
        now + (isSilent ? pause : Math.min(pause, member.interval / LOOKS_PER_INTERVAL)),
      );
      // The first heartbeats have spread streams that fell silent together.
      member.early = 0;
    } else {
      this.#examineAt(member, now);
      // A group needs silences of different lengths.
      member.early = this.#early();
    }
    if (sink.writableNeedDrain) {
      this.#skipped++;
      return;
    }
    if (typeof beat === 'function') beat(sink);
    else beat.beat(sink);
    this.#sent++;
    member.endedSilence = silence;
    member.bytes = sink.bytesWritten;
  }

  /** Bytes written since the last examination count as written right after it, the earliest possible time. */
  #noteWrites(member: Member<Sink>): void {
    const bytes = member.sink.bytesWritten;
    if (bytes === member.bytes) return;
    member.bytes = bytes;
    member.since = member.seen;
    member.early = member.isNew ? earlyAfterGreeting() : this.#early();
  }

  #early(): number {
    return earlyBy(1000 * this.#jitter);
  }

  #now(): number {
    return Math.floor(this.#clock.now());
  }

  #learn(member: Member<Sink>, now: number): void {
    if (!this.#isLost(member.sink)) return;
    this.#noteWrites(member);
    // Blames the silence before the heartbeat; the heartbeat only exposed the dead connection.
    member.group?.lost(member.endedSilence > 0 ? member.endedSilence : now - member.since);
  }
}

/** Never below 1 ms nor NaN, for which the timer would run without a pause. */
function intervalOf<Sink extends HeartbeatSink>(group: HeartbeatGroup, member: Member<Sink>): number {
  const { interval } = group;
  return interval >= 1 && interval <= MAX_INTERVAL ? interval : member.interval;
}

// The widest spread that sends no heartbeat to a stream that writes every third of an interval.
function earlyAfterGreeting(): number {
  return earlyBy(600);
}

function earlyBy(most: number): number {
  return Math.max(1, Math.floor(most * Math.random()));
}

function looksOf<Sink extends HeartbeatSink>({ group }: Member<Sink>): number {
  return group === undefined ? LOOKS_PER_INTERVAL : LOOKS_PER_GROUP_INTERVAL;
}

function survived<Sink extends HeartbeatSink>(member: Member<Sink>, group: HeartbeatGroup): void {
  group.survived(member.endedSilence);
  member.endedSilence = 0;
}

const COMMENT: Uint8Array = Buffer.from(':\n');

const SYSTEM_CLOCK: HeartbeatClock = {
  now: () => performance.now(),
  setInterval: (callback, interval) => setInterval(callback, interval),
  clearInterval: (timer) => clearInterval(timer),
};

function eventOf(type: string): Uint8Array {
  if (typeof type === 'string' && /^[^\r\n]+$/.test(type)) return Buffer.from(`event: ${type}\ndata:\n\n`);
  throw new TypeError(`\`event\` must be one line of text, got ${JSON.stringify(type)}`);
}

function isNotEnded(sink: HeartbeatSink): boolean {
  return (sink as { readonly writableEnded?: boolean }).writableEnded !== true;
}

function ignore(): void {}

function checkInterval(interval: number): number {
  if (typeof interval === 'number' && interval >= 1 && interval <= MAX_INTERVAL) return interval;
  throw new RangeError(`\`interval\` must be from 1 to ${MAX_INTERVAL} milliseconds, got ${interval}`);
}
