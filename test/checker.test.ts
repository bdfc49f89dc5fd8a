import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Checker, type FindingName, findingNames, type Verdict } from '../lib/checker.ts';
import { formatId, type GapReason, gapEvent, parseId, readyEvent } from '../lib/protocol.ts';

interface Item {
  readonly event: string;
  readonly data: string;
  readonly id: string;
}

type Stream = readonly Item[];

const dataOf = (number: number): string => `n ${number}`;
const numberOf = (data: string): number | undefined => {
  const [, digits] = /^n (\d+)$/.exec(data) ?? [];
  return digits === undefined ? undefined : Number(digits);
};
const isEvent = ({ event }: Item): boolean => event === 'message';
const isGap = ({ event }: Item): boolean => event === 'sluice:gap';

/** The ids of the events, with places of other topics between them, and a restart after some. */
interface History {
  readonly ids: readonly string[];
}

const EPOCHS = [1000, 2000];

const historiesOf = (restarts: fc.Arbitrary<number | null>): fc.Arbitrary<History> =>
  fc
    .record({
      strides: fc.array(fc.integer({ min: 2, max: 4 }), { minLength: 12, maxLength: 40 }),
      restartAt: restarts,
    })
    .map(({ strides, restartAt }) => {
      let [epoch, seq] = [EPOCHS[0]!, 10];
      const ids = strides.map((stride, i) => {
        if (i === restartAt) [epoch, seq] = [EPOCHS[1]!, 0];
        seq += stride;
        return formatId(epoch, seq);
      });
      return { ids };
    });

const histories = historiesOf(fc.option(fc.integer({ min: 4, max: 11 })));

interface Reading {
  /** How many events were there before the reader. */
  readonly start: number;
  /** After so many events, so many are lost. */
  readonly gaps: readonly { readonly after: number; readonly lost: number }[];
}

const readings: fc.Arbitrary<Reading> = fc.record({
  start: fc.integer({ min: 0, max: 6 }),
  gaps: fc.array(fc.record({ after: fc.integer({ min: 1, max: 9 }), lost: fc.integer({ min: 1, max: 4 }) }), {
    maxLength: 4,
  }),
});

const before = (id: string): string => formatId(parseId(id)!.epoch, parseId(id)!.seq - 1);
const epochOf = (id: string): number => parseId(id)!.epoch;

function gapItem(reason: GapReason, from: string, to: string, id = to): Item {
  return gapEvent(id, { reason, from, to, topics: ['t'] }) as Item;
}

/** What a correct server sends to a reader. */
function streamOf({ ids }: History, { start, gaps }: Reading): Item[] {
  let position = before(ids[start]!);
  const stream: Item[] = [readyEvent(position, ['t']) as Item];
  const left = [...gaps];
  let sinceGap = 0;
  for (let i = start; i < ids.length; i++) {
    if (epochOf(ids[i]!) !== epochOf(position)) {
      const to = formatId(epochOf(ids[i]!), 0);
      stream.push(gapItem('unknown-epoch', position, to));
      position = to;
    }
    const gap = left[0];
    const lost = gap === undefined || sinceGap < gap.after ? 0 : gap.lost;
    const end = i + lost - 1;
    if (lost > 0 && end < ids.length - 1 && epochOf(ids[end]!) === epochOf(position)) {
      left.shift();
      sinceGap = 0;
      stream.push(gapItem('evicted', position, ids[end]!));
      position = ids[end]!;
      i = end;
      continue;
    }
    sinceGap++;
    stream.push({ event: 'message', data: dataOf(i + 1), id: ids[i]! });
    position = ids[i]!;
  }
  return stream;
}

interface Schedule {
  readonly picks?: readonly number[];
  readonly answersFirst?: boolean;
  readonly kind?: 'published' | 'compared' | 'opaque';
}

/** Lets the checker judge streams, which arrive in turns that `picks` chooses. */
function judged(
  history: History,
  streams: readonly Stream[],
  { picks = [], answersFirst = false, kind = 'published' }: Schedule = {},
): Verdict {
  const checker = new Checker({ kind, numberOf });
  const readers = streams.map((_, i) => checker.reader(`reader ${i}`, { isReference: i === 0 }));
  const answer = (): void => {
    if (kind === 'published') history.ids.forEach((id, i) => void checker.answered(i + 1, id));
  };
  if (answersFirst) answer();
  const rest = streams.map((stream) => [...stream]);
  for (let turn = 0; rest.some((stream) => stream.length > 0); turn++) {
    const i = (picks[turn % Math.max(1, picks.length)] ?? turn) % rest.length;
    const chosen = rest[i]!.length > 0 ? i : rest.findIndex((stream) => stream.length > 0);
    readers[chosen]!.take(rest[chosen]!.shift()!);
  }
  if (!answersFirst) answer();
  return checker.finish();
}

const schedules = fc.record({
  picks: fc.array(fc.nat({ max: 9 }), { minLength: 1, maxLength: 30 }),
  answersFirst: fc.boolean(),
});

const WHOLE: Reading = { start: 0, gaps: [] };
const none = Object.fromEntries(findingNames.map((name) => [name, 0]));

/** Whoever draws a place in a stream draws it here: the index of an event that is not the last one. */
function pickEvent(stream: Stream, draw: number, accept: (i: number) => boolean = () => true): number {
  const places = stream.flatMap((item, i) =>
    isEvent(item) && i < stream.length - 1 && accept(i) ? [i] : [],
  );
  fc.pre(places.length > 0);
  return places[draw % places.length]!;
}

function changed(stream: Stream, at: number, deleted: number, ...items: Item[]): Item[] {
  const copy = [...stream];
  copy.splice(at, deleted, ...items);
  return copy;
}

const isFollowed = (stream: Stream) => (i: number) =>
  isEvent(stream[i + 1]!) && epochOf(stream[i + 1]!.id) === epochOf(stream[i]!.id);

const DAMAGES: readonly {
  readonly title: string;
  readonly name: FindingName;
  readonly damage: (stream: Stream, draw: number, history: History) => Item[];
}[] = [
  {
    title: 'an event is dropped',
    name: 'silent-hole',
    damage: (stream, draw) => changed(stream, pickEvent(stream, draw, isFollowed(stream)), 1),
  },
  {
    title: 'the newest events are missing',
    name: 'unseen-tail',
    damage: (stream) => stream.slice(0, -1),
  },
  {
    title: 'an event comes again',
    name: 'duplicate',
    damage: (stream, draw) => {
      const at = pickEvent(stream, draw);
      return changed(stream, at + 1 + (draw % (stream.length - at)), 0, stream[at]!);
    },
  },
  {
    title: 'two events are swapped',
    name: 'reorder',
    damage: (stream, draw) => {
      const at = pickEvent(stream, draw, isFollowed(stream));
      return changed(stream, at, 2, stream[at + 1]!, stream[at]!);
    },
  },
  {
    title: 'the content of an event is garbage',
    name: 'inconsistent-id',
    damage: (stream, draw) => {
      const at = pickEvent(stream, draw);
      return changed(stream, at, 1, { ...stream[at]!, data: 'garbage' });
    },
  },
  {
    title: 'an event has the content of another one',
    name: 'inconsistent-id',
    damage: (stream, draw) => {
      const at = pickEvent(stream, draw, isFollowed(stream));
      return changed(stream, at, 1, { ...stream[at]!, data: stream[at + 1]!.data });
    },
  },
  {
    title: 'an event has an id of its own',
    name: 'inconsistent-id',
    damage: (stream, draw) => {
      const at = pickEvent(stream, draw);
      return changed(stream, at, 1, { ...stream[at]!, id: before(stream[at]!.id) });
    },
  },
  {
    title: 'an event has no id of a hub',
    name: 'inconsistent-id',
    damage: (stream, draw) => {
      const at = pickEvent(stream, draw);
      return changed(stream, at, 1, { ...stream[at]!, id: 'x' });
    },
  },
  {
    title: 'an event is invented',
    name: 'phantom',
    damage: (stream, draw) => {
      const at = pickEvent(stream, draw);
      return changed(stream, at, 0, { event: 'message', data: 'garbage', id: before(stream[at]!.id) });
    },
  },
  {
    title: 'a number is invented',
    name: 'phantom',
    damage: (stream, draw, { ids }) => {
      const at = pickEvent(stream, draw);
      const data = dataOf(ids.length + 1 + (draw % 2) * 1e12);
      return changed(stream, at, 0, { event: 'message', data, id: before(stream[at]!.id) });
    },
  },
  {
    title: 'a gap ends before the last event that is lost',
    name: 'silent-hole',
    damage: (stream, draw) => {
      const [at, { from, to }] = pickGap(stream, draw);
      return changed(stream, at, 1, gapItem('evicted', from, before(to), to));
    },
  },
  {
    title: 'a gap covers an event before it, which arrived',
    name: 'false-gap',
    damage: (stream, draw) => {
      const [at, { to }] = pickGap(stream, draw, (i) => isEvent(stream[i - 1]!));
      return changed(stream, at, 1, gapItem('evicted', before(stream[at - 1]!.id), to));
    },
  },
  {
    title: 'a gap covers an event after it, which arrives',
    name: 'false-gap',
    damage: (stream, draw) => {
      const [at, { from, to }] = pickGap(stream, draw, isFollowed(stream));
      return changed(stream, at, 1, gapItem('evicted', from, stream[at + 1]!.id, to));
    },
  },
  {
    title: 'a gap covers nothing',
    name: 'false-gap',
    damage: (stream, draw) => {
      const at = pickEvent(stream, draw);
      const { id } = stream[at]!;
      return changed(stream, at + 1, 0, gapItem('evicted', id, id));
    },
  },
  ...(['unknown-epoch', 'ahead', 'malformed', 'no-such-reason' as GapReason] as const).map((reason) => ({
    title: `a gap has the reason ${reason} without a cause`,
    name: 'unexplained-gap' as const,
    damage: (stream: Stream, draw: number) => {
      const [at, { from, to }] = pickGap(stream, draw);
      return changed(stream, at, 1, gapItem(reason, from, to));
    },
  })),
];

function pickGap(
  stream: Stream,
  draw: number,
  accept: (i: number) => boolean = () => true,
): [number, { from: string; to: string }] {
  const isInEpoch = (i: number): boolean => JSON.parse(stream[i]!.data).reason === 'evicted';
  const places = stream.flatMap((item, i) => (isGap(item) && isInEpoch(i) && accept(i) ? [i] : []));
  fc.pre(places.length > 0);
  const at = places[draw % places.length]!;
  return [at, JSON.parse(stream[at]!.data)];
}

describe('the checker of published events', () => {
  it('finds nothing in a correct history, with gaps, a restart and other topics', () => {
    const property = fc.property(
      histories,
      fc.array(readings, { minLength: 1, maxLength: 4 }),
      schedules,
      (...all) => {
        const [history, several, schedule] = all;
        const streams = [WHOLE, ...several].map((reading) => streamOf(history, reading));
        const { findings, counts } = judged(history, streams, schedule);
        assert.deepEqual(findings, []);
        assert.deepEqual(counts, none);
      },
    );
    fc.assert(property, { numRuns: 500 });
  });

  for (const { title, name, damage } of DAMAGES) {
    it(`says ${name} where ${title}`, () => {
      const property = fc.property(
        histories,
        readings,
        fc.nat(),
        schedules,
        (history, reading, draw, schedule) => {
          const streams = [WHOLE, reading].map((one) => streamOf(history, one));
          const damaged = damage(streams[1]!, draw, history);
          const { counts, findings } = judged(history, [streams[0]!, damaged], schedule);
          assert.ok(counts[name] > 0, JSON.stringify(findings));
          assert.ok(findings.some((finding) => finding.name === name && finding.ids.length > 0));
        },
      );
      fc.assert(property, { numRuns: 200 });
    });
  }

  it('says lost-write where an event that was answered arrives nowhere', () => {
    const property = fc.property(histories, fc.nat(), schedules, (history, draw, schedule) => {
      const stream = streamOf(history, WHOLE);
      const damaged = changed(stream, pickEvent(stream, draw, isFollowed(stream)), 1);
      const { counts } = judged(history, [damaged, damaged], schedule);
      assert.deepEqual(counts, { ...none, 'lost-write': 2 });
    });
    fc.assert(property);
  });

  it('takes no event for late because a position came before the uncut reader had received it', () => {
    const checker = new Checker({ kind: 'compared' });
    const uncut = checker.reader('uncut', { isReference: true });
    const cut = checker.reader('cut');
    const event = (number: number): Item =>
      ({ event: 'message', data: `${number}`, id: `7-${number}` }) as Item;
    for (const reader of [uncut, cut]) reader.take(readyEvent('7-0', ['t']) as Item);
    for (const number of [1, 2]) cut.take(event(number));
    cut.takeId('7-2');
    for (const number of [1, 2, 3]) uncut.take(event(number));
    cut.take(event(3));
    assert.deepEqual(checker.finish().findings, []);
  });

  it('misses no event that came after those for which it has waited', () => {
    const checker = new Checker({ kind: 'published', numberOf });
    const reader = checker.reader('one');
    reader.take(readyEvent('7-0', ['t']) as Item);
    for (const number of [1, 2, 3]) checker.answered(number, `7-${number}`);
    assert.equal(checker.finish({ awaited: 0 }).findings.length, 0);
    const [missed, ...others] = checker.finish({ awaited: 2 }).findings;
    assert.deepEqual([missed?.name, missed?.ids, others], ['unseen-tail', ['7-1', '7-2'], []]);
  });

  it('allows an event of unknown outcome to arrive or not, and one that was sent again to have two epochs', () => {
    const checker = new Checker({ kind: 'published', numberOf });
    const [one, other] = [checker.reader('one'), checker.reader('other')];
    for (const reader of [one, other]) reader.take(readyEvent('7-0', ['t']) as Item);
    checker.unknown(1);
    checker.unknown(2);
    for (const reader of [one, other]) reader.take({ event: 'message', data: dataOf(2), id: '7-1' });
    one.take({ event: 'message', data: dataOf(3), id: '7-2' });
    one.take(gapItem('unknown-epoch', '7-2', '8-0'));
    other.take(gapItem('unknown-epoch', '7-1', '8-0'));
    for (const reader of [one, other]) reader.take({ event: 'message', data: dataOf(3), id: '8-1' });
    checker.answered(3, '8-1', true);
    assert.deepEqual(checker.finish().findings, []);
  });

  it('notices a position that has passed an event', () => {
    const checker = new Checker({ kind: 'published', numberOf });
    const [one, other] = [checker.reader('one'), checker.reader('other')];
    for (const reader of [one, other]) reader.take(readyEvent('7-0', ['t']) as Item);
    checker.answered(1, '7-1');
    one.take({ event: 'message', data: dataOf(1), id: '7-1' });
    other.takeId('7-1');
    assert.equal(checker.finish().counts['silent-hole'], 1);
  });

  it('takes what is no number for content that nobody published, and misses nothing beside it', () => {
    for (const told of [Number.NaN, 0, -1, 1.5, Infinity, 2 ** 53]) {
      const checker = new Checker({
        kind: 'published',
        numberOf: (data) => (data === 'odd' ? told : numberOf(data)),
      });
      const reader = checker.reader('one', { start: '7-0' });
      for (const number of [1, 2, 3]) checker.answered(number, `7-${number}`);
      for (const data of [dataOf(1), 'odd', dataOf(2), dataOf(2)])
        reader.take({ event: 'message', data, id: `7-${numberOf(data) ?? 9}` });
      const { counts } = checker.finish();
      assert.deepEqual(counts, { ...none, phantom: 1, duplicate: 1, 'unseen-tail': 1 }, `${told}`);
    }
  });

  it('says unseen-tail of a reader that has received nothing at all', () => {
    const checker = new Checker({ kind: 'published', numberOf });
    checker.reader('one');
    checker.answered(1, '7-1');
    checker.answered(2, '7-2');
    assert.equal(checker.finish({ awaited: 0 }).findings.length, 0);
    const [missed, ...others] = checker.finish().findings;
    assert.deepEqual([missed?.name, missed?.reader, missed?.ids], ['unseen-tail', 'one', ['7-1', '7-2']]);
    assert.deepEqual(others, []);
  });

  it('takes a position alone for the place where a reader began', () => {
    const checker = new Checker({ kind: 'published', numberOf });
    const reader = checker.reader('one');
    for (const number of [1, 2, 3]) checker.answered(number, `7-${number}`);
    reader.takeId('7-1');
    reader.take({ event: 'message', data: dataOf(3), id: '7-3' });
    assert.deepEqual(checker.finish().counts, { ...none, 'lost-write': 1 });
  });

  it('says inconsistent-id where publishers were given one id for two events', () => {
    const checker = new Checker({ kind: 'published', numberOf });
    const reader = checker.reader('one', { start: '7-0' });
    for (const number of [1, 2]) checker.answered(number, '7-1');
    reader.take({ event: 'message', data: dataOf(1), id: '7-1' });
    const { findings } = checker.finish();
    assert.ok(findings.some(({ message }) => message === 'publisher: events 1 and 2 have one id'));
  });

  it('notices events of another epoch that come after a later one, or after a gap that covers them', () => {
    const inEpochs = (...items: Item[]): Verdict => {
      const checker = new Checker({ kind: 'published', numberOf });
      const reader = checker.reader('one', { start: '7-0' });
      for (const [i, id] of ['7-1', '8-1', '8-2'].entries()) checker.answered(i + 1, id);
      for (const item of items) reader.take(item);
      return checker.finish();
    };
    const [one, two, three] = ['7-1', '8-1', '8-2'].map(
      (id, i): Item => ({ event: 'message', data: dataOf(i + 1), id }),
    ) as [Item, Item, Item];
    const gap = (to: string, id: string): Item => gapItem('unknown-epoch', '7-1', to, id);
    assert.deepEqual(inEpochs(one, gap('8-0', '8-0'), two, three).counts, none);
    assert.deepEqual(inEpochs(one, gap('8-2', '8-2')).counts, none);
    assert.deepEqual(inEpochs(two, one, three).counts, { ...none, reorder: 1 });
    assert.deepEqual(inEpochs(one, gap('8-2', '8-0'), two, three).counts, { ...none, 'false-gap': 2 });
  });

  it('judges the same when it is asked again', () => {
    const property = fc.property(histories, readings, fc.nat(), fc.nat(), (...all) => {
      const [history, reading, draw, which] = all;
      const { damage } = DAMAGES[which % DAMAGES.length]!;
      const damaged = damage(streamOf(history, reading), draw, history);
      const checker = new Checker({ kind: 'published', numberOf });
      const reader = checker.reader('one', { start: before(history.ids[reading.start]!) });
      history.ids.forEach((id, i) => void checker.answered(i + 1, id));
      for (const item of damaged) reader.take(item);
      const said = (): object => {
        const { findings, counts } = checker.finish();
        return structuredClone({ findings, counts });
      };
      const first = said();
      assert.deepEqual(said(), first);
      const { findings } = checker.finish();
      assert.ok(findings.length > 0);
    });
    fc.assert(property);
  });

  it('refuses what would let it find nothing', () => {
    const refused = (options: object, error: RegExp): void =>
      assert.throws(() => new Checker(options as never), error);
    refused({ kind: 'publish' }, /^TypeError: `kind` must be one of published, .* got publish$/);
    refused({ kind: 'published' }, /^TypeError: `numberOf` must be a function .* got undefined$/);
    refused({ kind: 'opaque', maxEvents: 0 }, /^RangeError: `maxEvents` must be .* got 0$/);
    const checker = new Checker({ kind: 'published', numberOf, maxEvents: 10 });
    for (const number of [0, Number.NaN, 1.5, 11]) {
      const error = new RegExp(`^RangeError: \`number\` must be a whole number from 1 to 10, got ${number}$`);
      assert.throws(() => checker.answered(number, '7-1'), error);
      assert.throws(() => checker.unknown(number), error);
    }
    assert.throws(() => checker.reader('one', { start: '7' }), /^TypeError: `start` must be .* got "7"$/);
    const comparing = new Checker({ kind: 'compared' });
    const reference = /^TypeError: `isReference` must be true for the first reader of a comparison/;
    assert.throws(() => comparing.reader('cut'), reference);
    comparing.reader('uncut', { isReference: true });
    assert.throws(() => comparing.reader('cut', { isReference: true }), reference);
    assert.throws(() => comparing.reader('cut', { start: '' }), /`start` must be an id of a hub, got ""/);
    new Checker({ kind: 'opaque' }).reader('uncut', { start: 'é', isReference: true });
  });

  it('holds a bounded number of findings, and counts them all', () => {
    const checker = new Checker({ kind: 'published', numberOf });
    const reader = checker.reader('one');
    for (let i = 1; i <= 20_000; i++) reader.take({ event: 'message', data: 'x', id: formatId(7, i) });
    assert.ok(reader.isFull);
    const { findings, counts } = checker.finish();
    assert.equal(findings.length, 100);
    assert.equal(counts.phantom, 10_000);
  });

  it('is full once it holds as many events as it may', () => {
    const checker = new Checker({ kind: 'opaque', maxEvents: 3 });
    const reader = checker.reader('uncut', { isReference: true });
    for (const id of ['a', 'b', 'b', 'c']) {
      assert.equal(checker.isFull, false);
      reader.take({ event: 'message', data: 'x', id });
    }
    assert.equal(checker.isFull, true);
  });

  it('keeps ranges of what a reader received, not every event', () => {
    const checker = new Checker({ kind: 'published', numberOf });
    const reader = checker.reader('one');
    for (let i = 1; i <= 50_000; i++) {
      reader.take({ event: 'message', data: dataOf(i), id: formatId(7, i) });
      checker.answered(i, formatId(7, i));
    }
    assert.equal(reader.received.length, 1);
    assert.deepEqual(checker.finish().findings, []);
  });
});

for (const kind of ['compared', 'opaque'] as const) {
  describe(`the checker of ${kind} events`, () => {
    const opaque = (stream: Stream): Item[] =>
      kind === 'compared'
        ? [...stream]
        : stream
            .filter(isEvent)
            .map((item) => ({ ...item, id: `é${(parseId(item.id)!.seq * 7919) % 10_007}` }));
    const single = historiesOf(fc.constant(null));

    it('finds nothing in a correct history, whichever reader is ahead', () => {
      const property = fc.property(
        single,
        fc.array(fc.nat({ max: 6 }), { minLength: 1, maxLength: 4 }),
        schedules,
        (...all) => {
          const [history, starts, schedule] = all;
          const streams = [0, ...starts].map((start) => opaque(streamOf(history, { start, gaps: [] })));
          assert.deepEqual(judged(history, streams, { ...schedule, kind }).findings, []);
        },
      );
      fc.assert(property, { numRuns: 500 });
    });

    for (const { title, name, damage } of DAMAGES) {
      if (/gap|no id|own|number is/.test(title)) continue;
      it(`finds something where ${title}, and says ${name} where the uncut reader is ahead`, () => {
        const property = fc.property(single, fc.nat(), schedules, (history, draw, schedule) => {
          const stream = streamOf(history, WHOLE);
          // Before its first event, nothing is known of where a reader began.
          const damaged = opaque([...stream.slice(0, 2), ...damage(stream.slice(2), draw, history)]);
          const streams = [opaque(stream), damaged];
          const picks = schedule.answersFirst ? [0] : schedule.picks;
          const { counts, findings } = judged(history, streams, { picks, kind });
          if (schedule.answersFirst) assert.ok(counts[name] > 0, JSON.stringify(findings));
          assert.ok(findings.length > 0);
        });
        fc.assert(property, { numRuns: 200 });
      });
    }
  });
}

it('an event that the uncut reader has passed is a phantom, also where nothing more came', () => {
  const checker = new Checker({ kind: 'compared' });
  const [uncut, cut] = [checker.reader('uncut', { isReference: true }), checker.reader('cut')];
  const item = (seq: number): Item => ({ event: 'message', data: `${seq}`, id: formatId(7, seq) });
  for (const seq of [1, 2, 3, 4]) cut.take(item(seq));
  for (const seq of [1, 2, 4]) uncut.take(item(seq));
  assert.deepEqual(checker.finish().counts, { ...none, phantom: 1 });
});

it('what the uncut reader knows to have lost is no phantom of the others', () => {
  const checker = new Checker({ kind: 'compared' });
  const [uncut, cut] = [checker.reader('uncut', { isReference: true }), checker.reader('cut')];
  const item = (seq: number): Item => ({ event: 'message', data: 'x', id: formatId(7, seq) });
  for (const reader of [uncut, cut]) {
    reader.take(readyEvent('7-0', ['t']) as Item);
    reader.take(item(1));
  }
  uncut.take(gapItem('evicted', '7-1', '7-3'));
  for (const seq of [2, 3]) cut.take(item(seq));
  for (const reader of [uncut, cut]) reader.take(item(4));
  assert.deepEqual(checker.finish().findings, []);
});
