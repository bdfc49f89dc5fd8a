// Judges whether streams were contiguous: from what readers received and publishers were answered, nothing else.
// Needs `findings.ts`, `ledger.ts`, `protocol.ts` and `ranges.ts` beside it.

import { createHash } from 'node:crypto';
import { type FindingName, Findings, type Verdict } from './findings.ts';
import { comparePlaces, covers, isNotAfter, Ledger, type Ordered, type Place, type Span } from './ledger.ts';
import {
  controlEvents,
  formatId,
  type Gap,
  gapReasons,
  isControlEvent,
  parseId,
  readGap,
} from './protocol.ts';
import { Ranges } from './ranges.ts';

export { type Finding, type FindingName, findingNames, type Verdict } from './findings.ts';

/** The members of a received event that are used. */
export interface ReceivedEvent {
  readonly event: string;
  readonly data: string;
  /** Its own id. */
  readonly id: string | undefined;
}

export interface CheckerOptions {
  /**
   * - `published`: events have numbers, which `numberOf` reads from their data.
   * - `compared`: the events are those that the reader `isReference` receives.
   * - `opaque`: the same, nothing is known of the ids, and there are no control events.
   */
  readonly kind: 'published' | 'compared' | 'opaque';
  /** Returns the number, from 1, of an event that was published; `undefined` for any other. */
  readonly numberOf?: ((data: string) => number | undefined) | undefined;
  /** Most events that are held; the limit is reached when `isFull`. Default 2,000,000. */
  readonly maxEvents?: number | undefined;
  /** Whether readers follow more than one topic, so that a gap may cover what another topic delivered. */
  readonly hasManyTopics?: boolean | undefined;
}

const MAX_EVENTS = 2_000_000;
// What one reader may have of ranges, gaps, events that wait for the uncut reader and events that nobody knows.
const MAX_PIECES = 10_000;
const MAX_KEY_LENGTH = 64;

/**
 * Takes what happened, in the order of each reader, and gives its verdict at the end. It has no clock and asks
 * nobody. A reader has to receive what came after the place from which it began.
 *
 * Memory: 16 bytes for each event, in a comparison also its id and a digest; for each reader one range for each
 * run of events, and its gaps.
 */
export class Checker {
  readonly #options: CheckerOptions;
  readonly #ledger = new Ledger();
  readonly #readers: ReaderRecord[] = [];
  readonly #findings = new Findings();
  /** Who received an event whose publisher has not been answered yet. */
  readonly #unconfirmed = new Map<number, string>();
  /** Numbers that were seen with ids of two epochs. */
  readonly #twice = new Map<number, { readonly reader: string; readonly ids: readonly string[] }>();

  /** @throws {TypeError | RangeError} naming the option that cannot be used. */
  constructor(options: CheckerOptions) {
    const { kind, numberOf, maxEvents = MAX_EVENTS } = options;
    if (!KINDS.includes(kind))
      throw new TypeError(`\`kind\` must be one of ${KINDS.join(', ')}, got ${String(kind)}`);
    if (kind === 'published' && typeof numberOf !== 'function')
      throw new TypeError(`\`numberOf\` must be a function where \`kind\` is published, got ${numberOf}`);
    if (!isNumber(maxEvents))
      throw new RangeError(`\`maxEvents\` must be a whole number ≥ 1, got ${maxEvents}`);
    this.#options = options;
  }

  /** Whether as many events are held as may be, so that no more can be judged. */
  get isFull(): boolean {
    return this.#ledger.last >= (this.#options.maxEvents ?? MAX_EVENTS);
  }

  /** The highest number that a publisher was answered, or that the uncut reader received. */
  get lastNumber(): number {
    return this.#ledger.last;
  }

  /** The publisher was given the id of an event; `isDoubtful`: it was sent more than once. */
  answered(number: number, id: string, isDoubtful = false): void {
    this.#checkNumber(number);
    const place = parseId(id);
    if (place === undefined) {
      const message = `the publisher was given ${JSON.stringify(id)}, which is no id, for event ${number}`;
      return this.#findings.add('inconsistent-id', 'publisher', [id], message);
    }
    const ledger = this.#ledger;
    const seen = ledger.placeOf(number);
    const reader = this.#unconfirmed.get(number);
    this.#unconfirmed.delete(number);
    ledger.answered.add(number);
    if (isDoubtful) ledger.doubtful.add(number);
    if (seen !== undefined && comparePlaces(seen, place) !== 0)
      this.#disagree(number, reader ?? 'publisher', seen, place);
    ledger.put(number, place);
  }

  /** The outcome of publishing an event is not known. */
  unknown(number: number): void {
    this.#checkNumber(number);
    this.#ledger.doubtful.add(number);
    this.#unconfirmed.delete(number);
  }

  /**
   * Adds a reader. `start`: the id after which it began, where it is told one; else its first event tells.
   * Of a comparison, exactly one reader is the reference, and is added first.
   *
   * @throws {TypeError} when the reference comes otherwise, or `start` is no id of a hub.
   */
  reader(name: string, { start, isReference = false }: ReaderOptions = {}): ReaderRecord {
    const { kind } = this.#options;
    // Without a reference, or without its start, a reader would miss nothing whatever it missed.
    if (kind !== 'published' && isReference !== (this.#readers.length === 0))
      throw new TypeError('`isReference` must be true for the first reader of a comparison, and only for it');
    if (kind !== 'opaque' && start !== undefined && parseId(start) === undefined)
      throw new TypeError(`\`start\` must be an id of a hub, got ${JSON.stringify(start)}`);
    const record = new ReaderRecord(name, this.#judge, { start, isReference });
    this.#readers.push(record);
    return record;
  }

  /**
   * Judges what was received so far. `awaited`: the newest event that readers were given the time to receive;
   * default the last. Asked again, it judges again.
   */
  finish({ awaited = Infinity }: { readonly awaited?: number } = {}): Verdict {
    const ledger = this.#ledger;
    for (const [number, reader] of this.#unconfirmed) {
      const ids = [this.#judge.idOf(number)];
      this.#findings.add('phantom', reader, ids, `event ${number} arrived, and was not published`);
      ledger.remove(number);
    }
    this.#unconfirmed.clear();
    const ordered = ledger.ordered();
    for (const [number, { reader, ids }] of this.#twice) {
      if (ledger.doubtful.has(number)) continue;
      this.#findings.add('inconsistent-id', reader, ids, `event ${number} has ids of two epochs`);
    }
    this.#twice.clear();
    for (const record of this.#readers) record.resolveStrays(ordered);
    const verdict = this.#findings.copy();
    this.#judgeShared(ordered, verdict);
    const seen = new Uint8Array(ledger.last + 1);
    for (const { received } of this.#readers)
      for (const [first, last] of received) seen.fill(1, first, Math.min(last, ledger.last) + 1);
    for (const record of this.#readers) {
      record.judgeGaps(ordered, verdict);
      this.#judgeMissing(record, ordered, { seen, awaited, verdict });
    }
    return verdict;
  }

  #checkNumber(number: number): void {
    const { maxEvents = MAX_EVENTS } = this.#options;
    if (!isNumber(number) || number > maxEvents)
      throw new RangeError(`\`number\` must be a whole number from 1 to ${maxEvents}, got ${number}`);
  }

  /** Two events of one id: the publisher was given it for both. */
  #judgeShared({ all }: Ordered, verdict: Findings): void {
    const placeOf = (i: number): Place => this.#ledger.placeOf(all[i]!)!;
    for (let i = 1; i < all.length; i++) {
      if (comparePlaces(placeOf(i - 1), placeOf(i)) !== 0) continue;
      const message = `events ${all[i - 1]} and ${all[i]} have one id`;
      verdict.add('inconsistent-id', 'publisher', [this.#judge.idOf(all[i]!)], message);
    }
  }

  #judgeMissing(record: ReaderRecord, ordered: Ordered, { seen, awaited, verdict }: Final): void {
    // To a reader of a hub that has received nothing, not even a position, everything may be missing. Of others it is
    // not known where they began.
    const isLost = this.#options.kind === 'published' && record.last === undefined;
    const { start = isLost ? NOWHERE : undefined, last = NOWHERE } = record;
    if (start === undefined) return;
    const settled = record.settled(ordered, this.#ledger.last);
    let run: { name: FindingName; first: number; last: number } | undefined;
    const flush = (): void => {
      if (run !== undefined) this.#miss(record, run, verdict);
      run = undefined;
    };
    for (const number of ordered.all) {
      const name = settled[number] === 1 ? undefined : this.#missedAs(number, start, last, seen);
      if (name === 'unseen-tail' && number > awaited) continue;
      if (run !== undefined && run.name === name) run.last = number;
      else {
        flush();
        if (name !== undefined) run = { name, first: number, last: number };
      }
    }
    flush();
  }

  #missedAs(number: number, start: Place, last: Place, seen: Uint8Array): FindingName | undefined {
    const place = this.#ledger.placeOf(number)!;
    if (comparePlaces(place, start) <= 0) return undefined;
    if (comparePlaces(place, last) > 0) return 'unseen-tail';
    return seen[number] === 1 ? 'silent-hole' : 'lost-write';
  }

  #miss(
    { name: reader }: ReaderRecord,
    run: { name: FindingName; first: number; last: number },
    verdict: Findings,
  ): void {
    const { name, first, last } = run;
    const which = first === last ? `event ${first}` : `events ${first} to ${last}`;
    const ids = [...new Set([this.#judge.idOf(first), this.#judge.idOf(last)])];
    const message = {
      'silent-hole': `${which} did not arrive, and no gap says so`,
      'lost-write': `${which} was answered with an id, arrived nowhere, and no gap says so`,
      'unseen-tail': `${which}, the newest, had not arrived at the end`,
    }[name as 'silent-hole'];
    verdict.add(name, reader, ids, message);
  }

  #disagree(number: number, reader: string, one: Place, other: Place): void {
    const ids = [formatId(one.epoch, one.seq), formatId(other.epoch, other.seq)];
    // A retry after a restart is published a second time, in another epoch: whether it was one is known later.
    if (one.epoch !== other.epoch) {
      if (this.#twice.size < MAX_PIECES) this.#twice.set(number, { reader, ids });
      return;
    }
    this.#findings.add('inconsistent-id', reader, ids, `event ${number} has two ids`);
  }

  readonly #judge: Judge = {
    add: (...finding) => this.#findings.add(...finding),
    options: () => this.#options,
    ledger: () => this.#ledger,
    reference: () => this.#readers[0]!,
    idOf: (number) => {
      if (this.#options.kind === 'opaque') return this.#ledger.textOf(number);
      const place = this.#ledger.placeOf(number);
      return place === undefined ? '' : formatId(place.epoch, place.seq);
    },
    confirm: (number, place, reader) => {
      const ledger = this.#ledger;
      const known = ledger.placeOf(number);
      if (known === undefined) {
        ledger.put(number, place);
        if (!ledger.doubtful.has(number)) this.#unconfirmed.set(number, reader);
        return true;
      }
      if (comparePlaces(known, place) === 0) return true;
      this.#disagree(number, reader, known, place);
      return known.epoch !== place.epoch;
    },
  };
}

const KINDS: readonly CheckerOptions['kind'][] = ['published', 'compared', 'opaque'];
const NOWHERE: Place = { epoch: -1, seq: 0 };

/** What the end of the reading is judged by. */
interface Final {
  /** By number, 1 for each event that a reader has received. */
  readonly seen: Uint8Array;
  readonly awaited: number;
  readonly verdict: Findings;
}

/** What a reader's record asks of the checker. */
interface Judge {
  readonly add: Findings['add'];
  readonly options: () => CheckerOptions;
  readonly ledger: () => Ledger;
  readonly reference: () => ReaderRecord;
  /** The id of a number, for people. */
  readonly idOf: (number: number) => string;
  /** Whether the number has this place, as far as is known; it is noted if nothing is. */
  readonly confirm: (number: number, place: Place, reader: string) => boolean;
}

export interface ReaderOptions {
  readonly start?: string | undefined;
  readonly isReference?: boolean | undefined;
}

/** An event that cannot be placed yet, or that nobody knows. */
interface Stray {
  readonly id: string;
  readonly digest: string;
  /** Where its reader was when it came, as far as was known then. */
  readonly after?: Place | undefined;
}

/** What one reader received, over all its connections. */
export class ReaderRecord {
  readonly name: string;
  readonly received: Ranges = new Ranges();
  /** The place after which the reader began, and the highest that it has reached. */
  start: Place | undefined;
  last: Place | undefined;
  events = 0;
  gaps = 0;
  withoutId = 0;
  readonly #judge: Judge;
  readonly #isReference: boolean;
  readonly #gaps: Span[] = [];
  /** The place of the newest event that it received. */
  #lastEvent: Place | undefined;
  #waiting: Stray[] = [];
  #strays: Stray[] = [];
  /** The end of the newest gap, where that was in another epoch than its beginning. */
  #renewal: Place | undefined;

  constructor(name: string, judge: Judge, { start, isReference = false }: ReaderOptions) {
    this.name = name;
    this.#judge = judge;
    this.#isReference = isReference;
    this.start = parseId(start);
    this.last = this.start;
  }

  /** Whether it holds as much as it may, so that it must be stopped. */
  get isFull(): boolean {
    const pieces = [this.received.length, this.#gaps.length, this.#waiting.length, this.#strays.length];
    return Math.max(...pieces) >= MAX_PIECES;
  }

  /** Whether the reader has come as far as an event, or past it by a gap. */
  hasReached(number: number): boolean {
    this.#settle();
    const place = this.#judge.ledger().placeOf(number);
    return place === undefined || (this.last !== undefined && comparePlaces(this.last, place) >= 0);
  }

  /** Takes an event of its stream, control events included, in the order of their arrival. */
  take(event: ReceivedEvent): void {
    const { kind } = this.#judge.options();
    if (isControlEvent(event.event)) {
      if (kind !== 'opaque') this.#takeControl(event);
      return;
    }
    this.events++;
    if (event.id === undefined) this.withoutId++;
    if (kind === 'published') this.#takeNumbered(event);
    else if (event.id !== undefined) this.#takeCompared(event.id, digestOf(event), event.id);
  }

  /** Takes an id that came without an event: a position. */
  takeId(id: string): void {
    if (this.#judge.options().kind !== 'opaque') this.#takePosition(parseId(id));
  }

  // ── control events ──────────────────────────────────────────────────────────────────────────────────────

  #takeControl({ event, data, id = '' }: ReceivedEvent): void {
    if (event === controlEvents.gap) this.#takeGap(readGap(data, id), id);
    this.#takePosition(parseId(id));
  }

  #takePosition(place: Place | undefined): void {
    if (this.start === undefined && place !== undefined && place.epoch > 0) this.start = place;
    this.#advance(place);
  }

  #takeGap({ reason, from: fromId, to: toId, topics }: Gap, id: string): void {
    this.gaps++;
    const [from = this.last, to] = [parseId(fromId), parseId(toId)];
    const cause = this.#causeOf(reason, parseId(fromId), to);
    if (cause !== undefined) {
      const message = `a gap (${reason}) of ${topics.join(', ') || 'no topic'} ${cause}`;
      this.#judge.add('unexplained-gap', this.name, [fromId ?? '', toId], message);
    }
    if (from === undefined || to === undefined) return;
    if (this.#gaps.length < MAX_PIECES) this.#gaps.push({ from, to });
    this.#renewal = from.epoch === to.epoch ? undefined : to;
    // Delivery continues at its id, also where that is of another epoch.
    this.last = parseId(id) ?? this.last;
  }

  /** What is wrong with a gap that cannot have come about; `undefined` where nothing is. */
  #causeOf(reason: string, from: Place | undefined, to: Place | undefined): string | undefined {
    if (to === undefined) return 'has no end';
    if (!gapReasons.some((known) => known === reason)) return 'has a reason that does not exist';
    if (reason === 'malformed' || from === undefined) return 'does not know the id, which the server gave';
    if (reason === 'ahead') return 'does not know the position, which the server gave';
    const isOther = from.epoch !== to.epoch;
    if (reason === 'unknown-epoch' && !isOther) return 'says that the epoch is unknown, and keeps it';
    if (this.last !== undefined && from.epoch !== this.last.epoch)
      return 'begins in an epoch that the reader was not in';
    return undefined;
  }

  #advance(place: Place | undefined): void {
    if (place === undefined || place.epoch === 0) return;
    if (this.last === undefined || comparePlaces(place, this.last) > 0) this.last = place;
  }

  // ── events with numbers ─────────────────────────────────────────────────────────────────────────────────

  #takeNumbered({ id, data, event }: ReceivedEvent): void {
    const { numberOf = () => undefined, maxEvents = MAX_EVENTS } = this.#judge.options();
    const [place, told] = [parseId(id), numberOf(data)];
    const number = isNumber(told) ? told : undefined;
    if (place === undefined) {
      const message = `${number === undefined ? 'an event' : `event ${number}`} came without an id of a hub`;
      return this.#judge.add('inconsistent-id', this.name, id === undefined ? [] : [id], message);
    }
    if (number === undefined || number > maxEvents || !this.#judge.confirm(number, place, this.name))
      this.#stray({ id: id!, digest: digestOf({ event, data }) });
    else this.#place(number, place);
  }

  #stray(stray: Stray): void {
    if (this.#strays.length < MAX_PIECES) this.#strays.push(stray);
  }

  /** Places an event that came when its reader was at `after`: positions may have come since then. */
  #place(number: number, place: Place, after: Place | undefined = this.last): void {
    this.start ??= { epoch: place.epoch, seq: place.seq - 1 };
    const isOlder = after !== undefined && place.epoch < after.epoch;
    const isLate = isOlder || isNotAfter(place, after) || isNotAfter(place, this.#lastEvent);
    if (this.received.has(number)) {
      const known = this.#judge.ledger().placeOf(number)!;
      if (comparePlaces(known, place) === 0)
        this.#judge.add('duplicate', this.name, [this.#judge.idOf(number)], `event ${number} arrived again`);
    } else if (isLate) {
      const message = `event ${number} arrived after a later event or position`;
      this.#judge.add('reorder', this.name, [this.#judge.idOf(number)], message);
    } else if (isNotAfter(place, this.#renewal) && this.#judge.options().hasManyTopics !== true) {
      const message = `a gap covers event ${number}, which arrived after it`;
      this.#judge.add('false-gap', this.name, [this.#judge.idOf(number)], message);
    }
    this.received.add(number);
    if (!isLate) this.#lastEvent = place;
    this.#advance(place);
  }

  // ── comparison ──────────────────────────────────────────────────────────────────────────────────────────

  #takeCompared(id: string, digest: string, text: string): void {
    const key = keyOf(text);
    if (this.#isReference) return this.#enter(id, key, digest);
    const number = this.#judge.ledger().numbers.get(key);
    // What it has not received before and the uncut reader has makes clear what came before it.
    const isNew = number !== undefined && !this.received.has(number);
    if (number !== undefined && !isNew) return this.#compare(number, { id, digest });
    this.#waiting.push({ id, digest, after: this.last });
    this.#settle(isNew);
  }

  #enter(id: string, key: string, digest: string): void {
    const ledger = this.#judge.ledger();
    const known = ledger.numbers.get(key);
    if (known !== undefined) return this.#compare(known, { id, digest });
    const isOpaque = this.#judge.options().kind === 'opaque';
    const place = isOpaque ? undefined : parseId(id);
    if (!isOpaque && place === undefined) {
      return this.#judge.add('inconsistent-id', this.name, [id], 'an event came without an id of a hub');
    }
    const number = ledger.enter(key, digest, (own) => place ?? { epoch: 1, seq: own });
    this.#place(number, ledger.placeOf(number)!);
  }

  /** Places the events of which the uncut reader has received the counterpart. */
  #settle(isForced = false): void {
    const { numbers } = this.#judge.ledger();
    let settled = 0;
    for (const stray of this.#waiting) {
      const number = numbers.get(keyOf(stray.id));
      if (number === undefined && !isForced) break;
      settled++;
      if (number !== undefined) this.#compare(number, stray);
      // What came before the first that both have is older than the comparison.
      else if (this.received.length > 0 && !this.#isBeforeReference(stray)) this.#stray(stray);
    }
    if (settled > 0) this.#waiting = this.#waiting.slice(settled);
  }

  #isBeforeReference(stray: Stray): boolean {
    return this.#isUpTo(stray, this.#judge.reference().start);
  }

  /** Whether an event is known to stand at or before a place. */
  #isUpTo({ id }: Stray, end: Place | undefined): boolean {
    const place = this.#judge.options().kind === 'opaque' ? undefined : parseId(id);
    return place !== undefined && end !== undefined && comparePlaces(place, end) <= 0;
  }

  #compare(number: number, { id, digest, after }: Stray): void {
    const ledger = this.#judge.ledger();
    if (ledger.digestOf(number) !== digest)
      this.#judge.add('inconsistent-id', this.name, [id], 'one id came with two contents');
    this.#place(number, ledger.placeOf(number)!, after);
  }

  // ── the end ─────────────────────────────────────────────────────────────────────────────────────────────

  /** Says what the events are that could not be placed when they came. */
  resolveStrays(ordered: Ordered): void {
    const isPublished = this.#judge.options().kind === 'published';
    const { numbers } = this.#judge.ledger();
    const { last } = this.#judge.reference();
    // The uncut reader is past these, and has not received them.
    const isUnknown = (stray: Stray): boolean =>
      numbers.get(keyOf(stray.id)) === undefined && this.#isUpTo(stray, last);
    for (const stray of this.#waiting.filter(isUnknown))
      if (!this.#isBeforeReference(stray)) this.#stray(stray);
    this.#waiting = this.#waiting.filter((stray) => !isUnknown(stray));
    this.#settle();
    const strays = this.#strays;
    this.#strays = [];
    for (const { id } of strays) {
      const place = parseId(id);
      const number = isPublished ? place && ordered.at(place) : numbers.get(keyOf(id));
      if (number === undefined) this.#judgePhantom(id, place);
      else if (isPublished) {
        const message = `event ${number} came with other content`;
        this.#judge.add('inconsistent-id', this.name, [id], message);
        this.received.add(number);
      } else if (!this.received.has(number)) {
        this.#judge.add('reorder', this.name, [id], `event ${number} arrived before an earlier one`);
        this.received.add(number);
      }
    }
  }

  #judgePhantom(id: string, place: Place | undefined): void {
    const isPublished = this.#judge.options().kind === 'published';
    // The uncut reader knows that it has not received everything.
    if (!isPublished && this.#judge.reference().isInGap(place)) return;
    const message = isPublished
      ? 'an event arrived that was not published'
      : 'an event arrived that the uncut reader did not get';
    this.#judge.add('phantom', this.name, [id], message);
  }

  isInGap(place: Place | undefined): boolean {
    return place !== undefined && this.#gaps.some((gap) => covers(gap, place));
  }

  judgeGaps(ordered: Ordered, verdict: Findings): void {
    const { hasManyTopics = false } = this.#judge.options();
    if (hasManyTopics) return;
    for (const { from, to } of this.#gaps) {
      // What a lost epoch held, the server cannot know.
      if (from.epoch !== to.epoch) continue;
      const covered = ordered.within(from.epoch, from.seq, to.seq);
      const delivered = covered.find((number) => this.received.has(number));
      const ids = [formatId(from.epoch, from.seq), formatId(to.epoch, to.seq)];
      if (delivered !== undefined)
        verdict.add('false-gap', this.name, ids, `a gap covers event ${delivered}, which arrived`);
      else if (covered.length === 0 && !this.#mayCoverUnknown())
        verdict.add('false-gap', this.name, ids, 'a gap covers no event');
    }
  }

  /** Whether there may be events of which the checker does not know the place. */
  #mayCoverUnknown(): boolean {
    if (this.#judge.options().kind !== 'published') return true;
    return this.#judge.ledger().hasUnplaced();
  }

  /** By number, 1 for each that needs no explanation: it arrived, or a gap covers it. */
  settled(ordered: Ordered, last: number): Uint8Array {
    const settled = new Uint8Array(last + 1);
    for (const [first, end] of this.received) settled.fill(1, first, Math.min(end, last) + 1);
    const settle = (numbers: Uint32Array): void => {
      for (const number of numbers) settled[number] = 1;
    };
    for (const { from, to } of this.#gaps) {
      if (from.epoch === to.epoch) settle(ordered.within(from.epoch, from.seq, to.seq));
      else {
        settle(ordered.within(from.epoch, from.seq, Infinity));
        settle(ordered.between(from.epoch, to.epoch));
        settle(ordered.within(to.epoch, -1, to.seq));
      }
    }
    return settled;
  }
}

/** Whether an event can have this number. */
function isNumber(number: number | undefined): number is number {
  return number !== undefined && Number.isSafeInteger(number) && number >= 1;
}

/** An opaque id can be long: a digest of it is kept then. */
function keyOf(id: string): string {
  return id.length <= MAX_KEY_LENGTH ? id : createHash('sha256').update(id).digest('base64');
}

function digestOf({ event, data }: Pick<ReceivedEvent, 'event' | 'data'>): string {
  return createHash('sha256').update(`${event}\n${data}`).digest('base64').slice(0, 16);
}
