// Judges a simulation: from what clients received and publishers were answered, and from nothing else but what
// was done to the world on purpose.

import { type EventId, formatId, parseId } from '../../../lib/protocol.ts';

export const findingNames = [
  'silent-hole',
  'duplicate',
  'reorder',
  'phantom',
  'inconsistent-id',
  'wrong-tenant',
  'lost-write',
  'unseen-tail',
  'false-gap',
  'unexplained-gap',
  'late-after-lost',
] as const;

export type FindingName = (typeof findingNames)[number];

export interface Finding {
  readonly name: FindingName;
  readonly who: string;
  readonly message: string;
}

/** An event that somebody tried to publish. */
export interface Publication {
  readonly n: number;
  readonly topic: string;
  readonly key: string | undefined;
  /** The events that are published with it, itself included, in order. */
  readonly batch: readonly number[];
  readonly sentAt: number;
  /** How often it was sent, and whether a repetition is recognized as one. */
  attempts: number;
  readonly isIdempotent: boolean;
  /** The id that its publisher was answered, and when. */
  id: string | undefined;
  answeredAt: number;
  /** Its publisher knows that it was not published. */
  isRefused: boolean;
}

export type Item =
  | {
      readonly kind: 'event';
      readonly time: number;
      readonly id: string;
      readonly topic: string;
      readonly n: number;
    }
  | { readonly kind: 'ready' | 'position' | 'end'; readonly time: number; readonly id: string }
  | {
      readonly kind: 'gap';
      readonly time: number;
      readonly id: string;
      readonly reason: string;
      readonly from: string | null;
      readonly to: string;
      readonly topics: readonly string[];
    };

/** What one client received from its start to its end. */
export interface Life {
  readonly client: string;
  readonly topics: readonly string[];
  readonly conflate: boolean;
  /** The id that it had stored; '' for none. */
  readonly start: string;
  /** It began without a place, with events from before: those that were forgotten by then are not missed. */
  readonly isFromEarlier: boolean;
  /** What it had stored is no id that it had received. */
  readonly isForged: boolean;
  readonly items: Item[];
  /** When it asked for its stream. */
  readonly asks: number[];
  /** `running` until the end of the simulation, when everything must have arrived. */
  fate: 'running' | 'crashed' | 'ended' | 'finished' | 'refused';
}

/** What was done to the order on purpose. */
export interface Disturbance {
  readonly time: number;
  /** `order`: another epoch may begin. `away`: a node may lag for longer than a second, until `end`. */
  readonly kind: 'order' | 'away';
  readonly end?: number;
}

export interface Evidence {
  readonly publications: ReadonlyMap<number, Publication>;
  readonly lives: readonly Life[];
  readonly disturbances: readonly Disturbance[];
  /** When a client lost the permission to read a topic, on all nodes. */
  withdrawnAt(client: string, topic: string): number;
  /** Topics that have ended, at the end of the run. */
  readonly ended: ReadonlySet<string>;
  /** Epochs of which nobody can know any more, because a split has ended. What was in them may be missing. */
  readonly strays: ReadonlySet<number>;
  /** How many events of a topic were kept at least, up to a time. */
  keptOf(topic: string, time: number): number;
}

interface Known {
  readonly place: EventId;
  readonly n: number;
  readonly key: string | undefined;
}

type Gap = Extract<Item, { kind: 'gap' }>;

interface KnownGap {
  readonly gap: Gap;
  readonly from: EventId | undefined;
  readonly to: EventId;
}

/** Gives all findings, the first of each life first. */
export function judge(evidence: Evidence): readonly Finding[] {
  return new Judge(evidence).findings;
}

/** Milliseconds for which a hub holds a client that is ahead of it. */
const HOLD = 1000;

/** Milliseconds after which a follower has what it missed. */
const MAX_LAG = 1500;

class Judge {
  readonly findings: Finding[] = [];
  readonly #evidence: Evidence;
  /** By topic, in order. */
  readonly #known: Map<string, Known[]> = new Map();
  readonly #numbers: Map<string, number> = new Map();
  readonly #received: Set<number> = new Set();
  /** Topics of which an event may be in the log that nobody has seen. */
  readonly #doubtful: Set<string> = new Set();

  constructor(evidence: Evidence) {
    this.#evidence = evidence;
    this.#collect();
    for (const life of evidence.lives) this.#judge(life);
  }

  #find(name: FindingName, who: string, message: string): void {
    this.findings.push({ name, who, message });
  }

  // ── what was published ──────────────────────────────────────────────────────────────────────────────────

  #collect(): void {
    const { publications, lives } = this.#evidence;
    const ids = new Map<number, Set<string>>();
    const note = (n: number, id: string, who: string): void => {
      const other = this.#numbers.get(id);
      if (other !== undefined && other !== n)
        this.#find('inconsistent-id', who, `${id} is the id of event ${other} and of event ${n}`);
      this.#numbers.set(id, n);
      const all = ids.get(n) ?? new Set();
      ids.set(n, all.add(id));
    };
    for (const { n, id } of publications.values()) if (id !== undefined) note(n, id, 'publisher');
    for (const { client, items } of lives) {
      for (const item of items) {
        if (item.kind !== 'event') continue;
        const publication = publications.get(item.n);
        if (publication === undefined || publication.topic !== item.topic || publication.isRefused)
          this.#find('phantom', client, `event ${item.n} of ${item.topic} (${item.id}) was not published`);
        else note(item.n, item.id, client);
        this.#received.add(item.n);
      }
    }
    // All of a batch, or nothing: where one is, the others are beside it.
    for (const [n, own] of [...ids]) {
      const { batch } = publications.get(n)!;
      for (const id of batch.length > 1 ? [...own] : []) {
        const place = parseId(id)!;
        batch.forEach((other, i) => {
          const seq = place.seq + i - batch.indexOf(n);
          note(other, formatId(place.epoch, seq), 'publisher');
        });
      }
    }
    for (const [n, own] of ids) {
      const { topic, key } = publications.get(n)!;
      this.#checkIds(publications.get(n)!, [...own]);
      const known = this.#known.get(topic) ?? [];
      this.#known.set(topic, known);
      for (const id of own) known.push({ place: parseId(id)!, n, key });
    }
    for (const known of this.#known.values()) known.sort((a, b) => compare(a.place, b.place));
    for (const { n, topic, isRefused } of publications.values())
      if (!isRefused && !ids.has(n)) this.#doubtful.add(topic);
  }

  #checkIds({ n, attempts, isIdempotent }: Publication, ids: readonly string[]): void {
    const epochs = new Set(ids.map((id) => parseId(id)?.epoch));
    if (ids.some((id) => parseId(id) === undefined))
      this.#find('inconsistent-id', 'publisher', `event ${n} has an id that is none: ${ids}`);
    else if (ids.length > 1 && attempts === 1)
      this.#find('inconsistent-id', 'publisher', `event ${n} was sent once and has the ids ${ids}`);
    else if (isIdempotent && epochs.size < ids.length)
      this.#find('duplicate', 'publisher', `event ${n} was published twice under one key: ${ids}`);
  }

  // ── what was received ───────────────────────────────────────────────────────────────────────────────────

  #judge(life: Life): void {
    const { client, topics, items } = life;
    const { publications, withdrawnAt } = this.#evidence;
    const walk = new Walk(life, this.#known, this.#evidence.strays);
    for (const item of items) {
      const place = parseId(item.id);
      if (place === undefined) {
        this.#find('inconsistent-id', client, `${item.kind} came with ${JSON.stringify(item.id)}`);
        continue;
      }
      if (item.kind === 'event') {
        const { topic, n, id } = item;
        const sentAt = publications.get(n)?.sentAt ?? 0;
        if (!topics.includes(topic) || sentAt > withdrawnAt(client, topic))
          this.#find('wrong-tenant', client, `event ${n} of ${topic} (${id}) is not for this client`);
        else this.#takeEvent(life, walk, item, place);
      } else if (item.kind === 'gap') this.#takeGap(life, walk, item, place);
      else this.#takePlace(life, walk, item, place);
    }
    this.#finish(life, walk);
  }

  #takeEvent(life: Life, walk: Walk, { topic, n, id }: Item & { kind: 'event' }, place: EventId): void {
    const { client } = life;
    if (walk.at === undefined || (life.isForged && walk.gaps.length === 0))
      this.#find('silent-hole', client, `event ${n} (${id}) came before any position or gap`);
    const isLate = walk.at !== undefined && compare(place, walk.at) <= 0;
    if (isLate && walk.received.has(id)) this.#find('duplicate', client, `event ${n} (${id}) came again`);
    else if (isLate)
      this.#find(
        'reorder',
        client,
        `event ${n} (${id}) came when ${formatId(walk.at!.epoch, walk.at!.seq)} had`,
      );
    const lostBy = walk.recent.find((gap) => covers(gap, topic, place));
    if (lostBy !== undefined)
      this.#find('late-after-lost', client, `event ${n} (${id}) came after ${told(lostBy.gap)}`);
    this.#checkUpTo(life, walk, topic, { epoch: place.epoch, seq: place.seq - 1 });
    if (!isLate) walk.moveTo(place);
    walk.received.add(id);
  }

  #takePlace(life: Life, walk: Walk, { kind, id, time }: Item, place: EventId): void {
    // Until the gap, the server repeats what it was sent.
    if (place.epoch === 0 || (life.isForged && walk.gaps.length === 0)) return;
    if (walk.at === undefined) {
      for (const topic of life.topics) {
        const missed = (this.#known.get(topic) ?? []).find(
          ({ n, place: other }) =>
            other.epoch === place.epoch &&
            other.seq <= place.seq &&
            this.#evidence.publications.get(n)!.sentAt > time,
        );
        if (missed !== undefined)
          this.#find(
            'silent-hole',
            life.client,
            `event ${missed.n} was published after ready, and lies before it`,
          );
      }
      walk.begin(place);
      walk.beganAt = time;
    } else if (compare(place, walk.at) < 0)
      this.#find(
        'reorder',
        life.client,
        `${kind} goes back from ${formatId(walk.at.epoch, walk.at.seq)} to ${id}`,
      );
    else walk.moveTo(place);
    // Another node may hold what the one before had lost, and knows of no gap that lies after the place.
    if (kind === 'ready') walk.recent = [];
  }

  #takeGap(life: Life, walk: Walk, gap: Gap, place: EventId): void {
    const { client } = life;
    const to = parseId(gap.to);
    if (to === undefined) return this.#find('unexplained-gap', client, `${told(gap)} has no end`);
    const known: KnownGap = { gap, from: parseId(gap.from), to };
    // A node that does not know its order yet gives a place that nothing has.
    const isOfForged = (life.isForged || gap.from === '0-0') && walk.gaps.length === 0;
    if (!isOfForged) this.#explain(life, walk, known);
    walk.gaps.push(known);
    walk.recent.push(known);
    if (walk.at === undefined || isOfForged) walk.begin(place);
    else if (compare(place, walk.at) < 0) walk.rewind(place);
    else walk.moveTo(place);
  }

  #explain(life: Life, walk: Walk, known: KnownGap): void {
    const { gap, from, to } = known;
    const { client } = life;
    const before = this.#evidence.disturbances.filter(({ time }) => time <= gap.time);
    switch (gap.reason) {
      case 'evicted':
        return this.#explainEvicted(life, walk, known);
      case 'store-changed':
      case 'unknown-epoch': {
        const orders = before.filter(({ kind }) => kind === 'order').length;
        const isForward = from !== undefined && to.epoch > from.epoch;
        if (isForward) walk.changes++;
        const isLagging = !isForward && this.#isHeld(life, gap);
        const arrived = isForward ? this.#arrivedWithin(life, walk, known) : undefined;
        if (arrived !== undefined)
          this.#find('false-gap', client, `${told(gap)} covers event ${arrived}, which had arrived`);
        if (
          from === undefined ||
          from.epoch === to.epoch ||
          (!isLagging && walk.changes > orders + walk.rewinds)
        )
          this.#find('unexplained-gap', client, `${told(gap)}, and nothing has changed the order`);
        return;
      }
      case 'ahead':
        if (!this.#isHeld(life, gap))
          this.#find('unexplained-gap', client, `${told(gap)}, and no node had lagged for a second`);
        return;
      default:
        this.#find('unexplained-gap', client, told(gap));
    }
  }

  /** Whether a node that lags has waited for a second before it told a client that this is ahead of it. */
  #isHeld({ asks }: Life, { time }: Gap): boolean {
    const asked = asks.findLast((one) => one <= time) ?? 0;
    const isAway = this.#evidence.disturbances.some(
      (one) => one.kind === 'away' && one.time <= time && asked <= (one.end ?? Infinity) + MAX_LAG,
    );
    return isAway && time - asked >= HOLD;
  }

  /** An event that the client had received, and a gap calls lost. */
  #arrivedWithin({ topics }: Life, walk: Walk, known: KnownGap): number | undefined {
    for (const topic of topics) {
      for (const { n, place } of this.#known.get(topic) ?? [])
        if (covers(known, topic, place) && walk.received.has(formatId(place.epoch, place.seq))) return n;
    }
    return undefined;
  }

  #explainEvicted({ client, topics }: Life, walk: Walk, known: KnownGap): void {
    const { gap } = known;
    const named = gap.topics.filter((topic) => topics.includes(topic));
    const covered = named.flatMap((topic) =>
      (this.#known.get(topic) ?? []).filter(({ place }) => covers(known, topic, place)),
    );
    const arrived = covered.find(({ place }) => walk.received.has(formatId(place.epoch, place.seq)));
    if (arrived !== undefined)
      this.#find('false-gap', client, `${told(gap)} covers event ${arrived.n}, which had arrived`);
    else if (named.some((topic) => this.#doubtful.has(topic))) return;
    // Where a log has dropped an event that memory still has, nobody knows whether there was one before it.
    else if (covered.length === 0 && named.some((topic) => this.#isKept(topic, gap, known.from ?? known.to)))
      this.#find('false-gap', client, `${told(gap)} covers no event`);
    else {
      const kept = named.find((topic) => this.#isKept(topic, gap, known.to));
      if (kept !== undefined && covered.length > 0)
        this.#find('false-gap', client, `${told(gap)}, but ${kept} has kept its events`);
    }
  }

  /** Whether no more events had come after a place than are kept. */
  #isKept(topic: string, gap: Gap, after: EventId): boolean {
    const { publications, keptOf } = this.#evidence;
    const later = (this.#known.get(topic) ?? []).filter(
      ({ n, place }) => compare(place, after) > 0 && publications.get(n)!.sentAt <= gap.time,
    );
    return later.length < keptOf(topic, gap.time);
  }

  /** All events of a topic up to a place have arrived, or a gap has told otherwise. */
  #checkUpTo(life: Life, walk: Walk, topic: string, end: EventId): void {
    const { publications } = this.#evidence;
    for (const { n, place } of walk.missingUpTo(topic, end)) {
      if (life.isFromEarlier && publications.get(n)!.sentAt <= walk.beganAt) continue;
      const name = this.#received.has(n) ? 'silent-hole' : 'lost-write';
      const id = formatId(place.epoch, place.seq);
      this.#find(name, life.client, `event ${n} of ${topic} (${id}) did not arrive, and no gap said so`);
    }
  }

  #finish(life: Life, walk: Walk): void {
    const { client, topics, fate } = life;
    if (walk.at === undefined) return;
    if (fate === 'running' && topics.every((topic) => this.#evidence.ended.has(topic)))
      this.#find('unseen-tail', client, `the end of ${topics.join(', ')} never came`);
    for (const topic of topics) {
      this.#checkUpTo(life, walk, topic, walk.at);
      const { publications } = this.#evidence;
      const rest = walk
        .missingUpTo(topic, { epoch: Infinity, seq: Infinity })
        .filter(({ n }) => !life.isFromEarlier || publications.get(n)!.sentAt > walk.beganAt);
      if (fate === 'running') {
        for (const { n, place } of rest)
          this.#find(
            'unseen-tail',
            client,
            `event ${n} of ${topic} (${formatId(place.epoch, place.seq)}) never came`,
          );
      } else if (fate === 'finished') {
        // A 204: nothing was left to deliver when it asked.
        const { publications } = this.#evidence;
        const left = rest.find(
          ({ n, place }) =>
            // A node of a minority knows no other epoch.
            place.epoch === walk.at!.epoch && publications.get(n)!.answeredAt < (life.asks.at(-1) ?? 0),
        );
        if (left !== undefined)
          this.#find(
            'silent-hole',
            client,
            `event ${left.n} of ${topic} was left when the stream was refused`,
          );
      }
    }
  }
}

/** Where a life is. */
class Walk {
  at: EventId | undefined;
  /** When it got its first place from a server. */
  beganAt = 0;
  readonly received: Set<string> = new Set();
  readonly gaps: KnownGap[] = [];
  /** The gaps since the place last went back: what they cover must not come. */
  recent: KnownGap[] = [];
  changes = 0;
  rewinds = 0;
  readonly #life: Life;
  readonly #known: ReadonlyMap<string, readonly Known[]>;
  readonly #strays: ReadonlySet<number>;
  readonly #next: Map<string, number> = new Map();
  readonly #ever: Set<string> = new Set();

  constructor(life: Life, known: ReadonlyMap<string, readonly Known[]>, strays: ReadonlySet<number>) {
    this.#strays = strays;
    this.#life = life;
    this.#known = known;
    const start = parseId(life.start);
    if (start !== undefined && !life.isForged) this.begin(start);
  }

  begin(place: EventId): void {
    this.at = place;
    for (const topic of this.#life.topics) this.#next.set(topic, this.#indexAfter(topic, place));
  }

  moveTo(place: EventId): void {
    if (this.at === undefined || compare(place, this.at) > 0) this.at = place;
  }

  /** The server says where it goes on, which is before where the client is: events come again. */
  rewind(place: EventId): void {
    this.rewinds++;
    this.at = place;
    for (const id of this.received) {
      this.#ever.add(id);
      if (compare(parseId(id)!, place) > 0) this.received.delete(id);
    }
    this.recent = [];
    for (const topic of this.#life.topics) {
      const index = this.#indexAfter(topic, place);
      this.#next.set(topic, Math.min(index, this.#next.get(topic) ?? index));
    }
  }

  /** Events that were not received and not told lost; each is given once. */
  missingUpTo(topic: string, end: EventId): Known[] {
    const known = this.#known.get(topic) ?? [];
    const missing: Known[] = [];
    let index = this.#next.get(topic) ?? 0;
    for (; index < known.length && compare(known[index]!.place, end) <= 0; index++) {
      const one = known[index]!;
      const id = formatId(one.place.epoch, one.place.seq);
      if (this.received.has(id) || this.#ever.has(id) || this.#strays.has(one.place.epoch)) continue;
      if (this.gaps.some((gap) => covers(gap, topic, one.place))) continue;
      const isReplaced =
        this.#life.conflate &&
        one.key !== undefined &&
        known.slice(index + 1).some(({ key }) => key === one.key);
      if (!isReplaced) missing.push(one);
    }
    this.#next.set(topic, index);
    return missing;
  }

  #indexAfter(topic: string, place: EventId): number {
    const index = (this.#known.get(topic) ?? []).findIndex((one) => compare(one.place, place) > 0);
    return index < 0 ? (this.#known.get(topic)?.length ?? 0) : index;
  }
}

function covers({ gap, from, to }: KnownGap, topic: string, place: EventId): boolean {
  const isOfTopic = gap.topics.length === 0 || gap.topics.includes(topic);
  return isOfTopic && (from === undefined || compare(place, from) > 0) && compare(place, to) <= 0;
}

/** Later epochs are greater. */
export function compare(one: EventId, other: EventId): number {
  return one.epoch === other.epoch ? one.seq - other.seq : one.epoch - other.epoch;
}

function told({ reason, from, to, topics }: Gap): string {
  return `a gap (${reason}) from ${from} to ${to} of ${topics.join(', ')}`;
}
