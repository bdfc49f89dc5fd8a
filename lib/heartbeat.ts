// Keeps quiet streams alive: one timer for all of them, and a comment whenever one has been silent for too long.
// Stands alone: copy this file by itself.

/** The members of a stream that are used. Node's `Writable`s fit; they are simply taken to be idle. */
export interface BeatSink {
  readonly closed: boolean;
  /** While true nothing is sent: bytes are on their way anyhow. */
  readonly writableNeedDrain: boolean;
  /** Bytes written so far. A change between two looks is activity; a sink without it gets every beat. */
  readonly bytesWritten?: number | undefined;
  write(chunk: Uint8Array): boolean;
}

/** Where a stream's interval comes from, and who is told how silences end. `adaptive.ts` has one that learns. */
export interface BeatGroup {
  /** Milliseconds; read anew whenever a stream is looked at. */
  readonly interval: number;
  /** A connection was silent for so many milliseconds and is still there. */
  lived(silence: number): void;
  /** A connection was lost after so many milliseconds of silence. */
  died(silence: number): void;
}

/** Time, where a test wants its own. */
export interface HeartbeatClock {
  now(): number;
  setInterval(callback: () => void, interval: number): NodeJS.Timeout;
  clearInterval(timer: NodeJS.Timeout): void;
}

export interface HeartbeatOptions<Sink extends BeatSink = BeatSink> {
  /** Milliseconds: the longest silence. Default 15,000, under what every known proxy allows. */
  interval?: number | undefined;
  /** Part of the interval by which the first beat of a silence may come early: no crowd beats at once; default 0.2. */
  jitter?: number | undefined;
  /** What a beat is; default `:\n\n`, which readers skip. Must be whole events or comments. */
  beat?: ((sink: Sink) => Uint8Array) | undefined;
  /** The type of an event to send instead of a comment, for a reader that wants to see it. */
  event?: string | undefined;
  /** Whether a closed sink was lost rather than ended here; only losses teach its group. */
  lost?: ((sink: Sink) => boolean) | undefined;
  /** Gets what a sink or its `beat` throws. The others get their beats in any case. */
  onError?: ((error: unknown, sink: Sink) => void) | undefined;
  clock?: HeartbeatClock | undefined;
}

export interface BeatOptions<Sink extends BeatSink = BeatSink> {
  /** Milliseconds, for this stream; default the heartbeat's own. */
  interval?: number | undefined;
  /** For this stream; default the heartbeat's own. */
  beat?: ((sink: Sink) => Uint8Array) | undefined;
  /** Decides the interval instead, and learns from how the stream fares. */
  group?: BeatGroup | undefined;
}

/**
 * How often to beat on which network, and after how many missed beats the reader may give up: `interval × missed`
 * is the longest silence that still means "alive". Tell it to the reader, so that its watchdog matches.
 */
export const heartbeatProfiles: Readonly<
  Record<'mobile' | 'wifi' | 'lan', Readonly<{ interval: number; missed: number }>>
> = Object.freeze({
  mobile: Object.freeze({ interval: 30_000, missed: 3 }),
  wifi: Object.freeze({ interval: 60_000, missed: 2 }),
  lan: Object.freeze({ interval: 120_000, missed: 1 }),
});

const MAX_INTERVAL = 2 ** 31 - 1;
// A scan passes over all members 64 times per interval, so that beats come in time and in small portions. It looks at
// the stream itself, which is colder memory and most of a sweep's cost, only a third of an interval after the last look
// (an eighth, where a group wants to know how long silences are), or when a beat is due (bench/heartbeat).
const SCANS_PER_INTERVAL = 64;
const LOOKS_PER_INTERVAL = 3;
const LOOKS_FOR_A_GROUP = 8;

interface Member<Sink> {
  readonly sink: Sink;
  readonly interval: number;
  readonly beat: (sink: Sink) => Uint8Array;
  readonly group: BeatGroup | undefined;
  /** Where it stands in the array. */
  index: number;
  /** By how many thousandths of its interval the next beat is to come early. */
  early: number;
  bytes: number | undefined;
  /** Not looked at yet: what it has written since it came is its greeting. */
  isNew: boolean;
  /** When it was last looked at, and since when it has been silent: whole milliseconds, which are stored in place. */
  seen: number;
  since: number;
  /** The silence that its last beat broke; 0 once that beat is known to have been survived. */
  broken: number;
}

/**
 * Sends a beat to every stream before it has been silent for longer than `interval`. One that writes something
 * at least every third of an interval gets none, but for one when that begins after a long silence.
 *
 * The timer is unref'd and runs only while there are members. A stream that is full is skipped and looked at
 * again, a closed one is dropped, one that throws is reported; none of them stops the others.
 *
 * The trap: a beat under a proxy's time-out is what keeps a stream, but very frequent ones (below some 5 s)
 * keep TCP from noticing a dead peer.
 */
export class Heartbeat<Sink extends BeatSink = BeatSink> {
  /** Milliseconds: the longest silence of a stream that has no interval of its own. */
  readonly interval: number;
  readonly #jitter: number;
  readonly #beat: (sink: Sink) => Uint8Array;
  readonly #lost: (sink: Sink) => boolean;
  readonly #onError: (error: unknown, sink: Sink) => void;
  readonly #clock: HeartbeatClock;
  readonly #members: Map<Sink, Member<Sink>> = new Map();
  // The same members in an array, looked at from the last to the first: taking one out moves the last one,
  // already looked at, into its place, so none is missed.
  readonly #order: Member<Sink>[] = [];
  // When to look at each next: numbers in a row, so that a scan of 15,000 reads 120 KB and not the members.
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
    const { interval = 15_000, jitter = 0.2, event, beat, lost, onError, clock } = options;
    if (event !== undefined && beat !== undefined)
      throw new TypeError('`event` and `beat` exclude each other');
    if (!(jitter >= 0 && jitter <= 1)) throw new RangeError(`\`jitter\` must be from 0 to 1, got ${jitter}`);
    const bytes = event === undefined ? COMMENT : namedEvent(event);
    this.interval = checkInterval(interval);
    this.#jitter = jitter;
    this.#beat = beat ?? (() => bytes);
    this.#lost = lost ?? notEnded;
    this.#onError = onError ?? ignore;
    this.#clock = clock ?? SYSTEM_CLOCK;
  }

  /** How many streams it looks after. */
  get size(): number {
    return this.#members.size;
  }

  /** Beats sent so far. */
  get sent(): number {
    return this.#sent;
  }

  /** Beats not sent because the stream was full. */
  get skipped(): number {
    return this.#skipped;
  }

  /** Beats that threw: the sink, its `beat`, or its group. */
  get failed(): number {
    return this.#failed;
  }

  /**
   * Looks after one more stream; a closed one is not taken. The first beat comes anywhere within the interval,
   * so that streams opened at once drift apart; within the last three fifths of it after a greeting.
   *
   * @throws {RangeError} when its `interval` is out of range.
   */
  add(sink: Sink, options: BeatOptions<Sink> = {}): void {
    const { interval = this.interval, beat = this.#beat, group } = options;
    checkInterval(interval);
    this.#forget(sink);
    if (sink.closed) return;
    const now = this.#now();
    const member = {
      sink,
      interval,
      beat,
      group,
      index: this.#order.length,
      early: Math.floor(1000 * Math.random()),
      bytes: sink.bytesWritten,
      isNew: true,
      seen: now,
      since: now,
      broken: 0,
    };
    this.#members.set(sink, member);
    this.#order.push(member);
    this.#looks.push(now);
    this.#run(group?.interval ?? interval);
  }

  /** Stops looking after it; `false` when it did not. If the sink is closed and was lost, its group learns. */
  delete(sink: Sink): boolean {
    const member = this.#forget(sink);
    if (member?.group !== undefined && sink.closed) this.#learn(member, this.#now());
    return member !== undefined;
  }

  /** Forgets all streams and stops the timer. Adding one starts it again. */
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

  /** Runs the timer finely enough for this interval. */
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

  /** Looks at as many as the time since the last tick is worth. */
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
        this.#look(member, now, step);
      } catch (error) {
        this.#failed++;
        this.#onError(error, member.sink);
      }
    }
  }

  #look(member: Member<Sink>, now: number, step: number): void {
    const { sink, group } = member;
    if (sink.closed) {
      this.delete(sink);
      return;
    }
    this.#notice(member);
    member.isNew = false;
    member.seen = now;
    if (group !== undefined && member.broken > 0 && now - member.since >= step / 2) survived(member, group);
    const interval = group?.interval ?? member.interval;
    if (interval < this.#finest) this.#run(interval);
    const limit = interval - (interval * member.early) / 1000;
    // The next scan comes after one step, or after two if others left and this one changed places. What a group
    // tries out costs connections: its beats keep twice as far from it.
    const margin = (group === undefined ? 2 : 4) * step;
    const due = member.since + limit - margin;
    if (now >= due) this.#give(member, now, interval - margin);
    else this.#lookAt(member, Math.min(due, now + interval / looksOf(member)));
  }

  /** It may have been taken out meanwhile, and its place be another's. */
  #lookAt(member: Member<Sink>, time: number): void {
    if (this.#order[member.index] === member) this.#looks[member.index] = time;
  }

  #give(member: Member<Sink>, now: number, pause: number): void {
    const { sink, group } = member;
    const silence = now - member.since;
    member.since = now;
    if (group === undefined) {
      // Nothing was noticed since its last beat: it will be silent again, and is looked at when the next one is due.
      const isSilent = member.early === 0;
      this.#lookAt(member, now + (isSilent ? pause : Math.min(pause, member.interval / LOOKS_PER_INTERVAL)));
      // A crowd that fell silent at once was spread by its first beats, and stays so.
      member.early = 0;
    } else {
      this.#lookAt(member, now);
      // A group learns from silences of several lengths.
      member.early = this.#early();
    }
    if (sink.writableNeedDrain) {
      this.#skipped++;
      return;
    }
    sink.write(member.beat(sink));
    this.#sent++;
    member.broken = silence;
    member.bytes = sink.bytesWritten;
  }

  /** Bytes that were written since the last look may have been written right after it. */
  #notice(member: Member<Sink>): void {
    const bytes = member.sink.bytesWritten;
    if (bytes === member.bytes) return;
    member.bytes = bytes;
    member.since = member.seen;
    member.early = member.isNew ? earlyAfterGreeting() : this.#early();
  }

  #early(): number {
    return Math.floor(1000 * this.#jitter * Math.random());
  }

  #now(): number {
    return Math.floor(this.#clock.now());
  }

  #learn(member: Member<Sink>, now: number): void {
    if (!this.#lost(member.sink)) return;
    this.#notice(member);
    // Closed right after a beat: it was the silence before the beat that killed it, and the beat that showed it.
    member.group?.died(member.broken > 0 ? member.broken : now - member.since);
  }
}

// As far apart as can be without a beat to one that goes on writing every third of an interval.
function earlyAfterGreeting(): number {
  return Math.floor(600 * Math.random());
}

function looksOf<Sink>({ group }: Member<Sink>): number {
  return group === undefined ? LOOKS_PER_INTERVAL : LOOKS_FOR_A_GROUP;
}

function survived<Sink>(member: Member<Sink>, group: BeatGroup): void {
  group.lived(member.broken);
  member.broken = 0;
}

const COMMENT: Uint8Array = Buffer.from(':\n\n');

const SYSTEM_CLOCK: HeartbeatClock = {
  now: () => performance.now(),
  setInterval: (callback, interval) => setInterval(callback, interval),
  clearInterval: (timer) => clearInterval(timer),
};

function namedEvent(type: string): Uint8Array {
  if (typeof type === 'string' && /^[^\r\n]+$/.test(type)) return Buffer.from(`event: ${type}\ndata:\n\n`);
  throw new TypeError(`\`event\` must be one line of text, got ${JSON.stringify(type)}`);
}

function notEnded(sink: BeatSink): boolean {
  return (sink as { readonly writableEnded?: boolean }).writableEnded !== true;
}

function ignore(): void {}

function checkInterval(interval: number): number {
  if (interval >= 1 && interval <= MAX_INTERVAL) return interval;
  throw new RangeError(`\`interval\` must be from 1 to ${MAX_INTERVAL} milliseconds, got ${interval}`);
}
