// Faults in what is remembered: history, frame-ring, silence, newest, pages, replay, order.

import { type Mutant, mutantsOf } from '../mutant.ts';

const CACHE = { in: 'pages', only: 'page only for its owner|sixteen pages|a mebibyte|pages of one owner' };

const KEEP = `push({ owner, page });
    this.#bytes += page.bytes.length;
    while (this.#bytes > MAX_KEPT_BYTES || this.#kept.length > MAX_KEPT_PAGES)`;

const LOG_CACHE = [{ in: 'pages', only: 'LogPageCache' }] as const;
const KEEP_OF_LOG = KEEP.replace(
  '{ owner, page }',
  '{ owner, page, seqs, ends, end: now + MAX_LOG_PAGE_AGE }',
);

export const history: readonly Mutant[] = [
  ...mutantsOf(
    'history.ts',
    ['history', 'hub.publish'],
    [
      {
        find: 'if (ring.dropped > this.#newestDropped)',
        replace: 'if (ring.dropped < 0)',
        why: 'a reader that was overtaken goes on as if nothing were missing',
        property: 'no hole unsaid',
        tests: ['hub.subscribe'],
      },
      {
        find: 'this.#newestForgotten = Math.max(this.#newestForgotten, topic.ring.last);',
        replace: 'this.#newestForgotten = topic.ring.last;',
        why: 'a client of a topic that was forgotten, and that others have outlived, gets no gap',
        property: 'what was lost of a topic is decidable',
      },
      {
        find: 'this.#bytes += heldBytes - countedBytes;',
        replace: 'this.#bytes += Math.max(0, heldBytes - countedBytes);',
        why: '`historyBytes` never falls, so that live topics lose their history to ones that are gone',
      },
      {
        find: 'topic.deleted = true;',
        replace: '',
        why: 'a deleted topic stays in the list',
        tests: ['hub'],
      },
      {
        find: 'this.#maxBytes * 0.9',
        replace: 'this.#maxBytes',
        why: 'every event of a full history makes room anew',
        tests: [{ in: 'history', only: 'down to nine tenths' }],
      },
      {
        find: 'if (topic === newest) break;',
        replace: '',
        why: 'an event is dropped before its subscribers get it',
        property: 'append before deliver',
      },
      {
        find: 'topic.dropPart(first)',
        replace: 'topic.dropPart(Infinity)',
        why: 'a batch pushes out its own first events',
        property: 'batches are atomic up to a stated size',
      },
      {
        find: '+ keys > this.#maxBytes / 2',
        replace: '+ keys > this.#maxBytes',
        why: 'a batch is taken that fills the whole history, and loses its beginning',
        property: 'batches are atomic up to a stated size',
      },
      {
        find: '<= maxEvents && wire <= maxBytes)',
        replace: '<= maxEvents)',
        why: 'a batch of few large events is larger than half of its topic',
        property: 'batches are atomic up to a stated size',
      },
      {
        find: 'if (this.#tombstones.size > this.#maxTopics)',
        replace: 'if (false)',
        why: 'the names of ended topics are kept without a bound',
      },
      {
        find: 'if (topic.ended) this.#tombstones.set',
        replace: 'if (false) this.#tombstones.set',
        why: 'an ended topic that was forgotten takes events again',
      },
      {
        find: 'return events * 4 >= limits.maxFrames',
        replace: 'return events * 2 >= limits.maxFrames',
        why: 'a source waits for its readers when half of the history is gone already',
      },
      {
        find: 'this.#topics.size - this.#held >= this.#maxFollowed',
        replace: 'this.#topics.size >= this.#maxFollowed',
        why: 'topics with events take the room of those that are only followed',
      },
      {
        find: 'if (done) this.#round = this.#topics.values();',
        replace: 'if (done) return;',
        why: 'events of silent topics outlive their age after the first round',
      },
      {
        find: 'this.#held--;',
        replace: '',
        why: 'each topic that is forgotten takes a place of `maxTopics` for good',
      },
      {
        find: 'else this.#forgetKeys();',
        replace: '',
        why: 'the keys of expired events stay in memory',
      },
      {
        find: 'if (topic.isHeld && topic.isUnused) this.#letGo(topic);',
        replace: '',
        why: 'a topic that was ended and reopened without an event stays for ever',
        tests: ['hub'],
      },
    ],
  ),
  ...mutantsOf(
    'frame-ring.ts',
    ['frame-ring'],
    [
      {
        find: 'this.#dropped = oldest.seqOf(this.#first);',
        replace: 'this.#dropped = oldest.seqOf(this.#first) - 1;',
        why: 'a client that lacks just the newest dropped event gets no gap',
        property: 'what was lost of a topic is decidable',
      },
      {
        find: 'if (this.size === maxFrames) this.#dropOldest();',
        replace: 'if (this.size > maxFrames) this.#dropOldest();',
        why: 'a topic keeps one event more than `maxEvents`',
      },
      {
        find: 'if (isSparse) return capacity < MIN_SLICE_BYTES ? bytes : this.#allocate(capacity);',
        replace: 'if (isSparse) return bytes;',
        why: 'a page that waits for a slow client is written over with newer events',
        race: 'slow client overtaken',
      },
      {
        find: 'if (end - start >= MIN_SLICE_BYTES) return',
        replace: 'if (end - start >= 0) return',
        why: 'a small page that waits for a client is written over with newer events',
        race: 'slow client overtaken',
      },
      {
        find: 'if (this.seqOf(middle) > seq) high = middle;',
        replace: 'if (this.timeOf(middle) > this.timeOf(low)) high = middle;',
        why: 'a client is placed by the time of its event, and misses others of that millisecond',
        race: 'two events in one millisecond with the cut between them',
      },
      {
        find: 'if (removed === this.#recent) this.#recent = undefined;',
        replace: '',
        why: 'the segment that was read last stays in memory after it was dropped',
      },
      {
        find: 'this.#beforeLast = this.#last;',
        replace: '',
        why: 'a client that is behind gets the newest event alone',
        property: 'no hole unsaid',
      },
      {
        find: 'this.#oldest < older.length ? older.slice(this.#oldest) : undefined',
        replace: 'older.slice(this.#oldest)',
        why: 'publishing throws after all older segments were dropped',
      },
      {
        find: 'older[this.#oldest++] = undefined;',
        replace: 'this.#oldest++;',
        why: 'dropped segments stay in memory',
      },
      {
        find: 'segment.end - segment.startOf(this.#first)',
        replace: 'segment.end',
        why: 'the bytes of a topic go wrong when the rest of a segment is dropped',
      },
      {
        find: 'Math.ceil(at)',
        replace: 'Math.floor(at)',
        why: 'an event expires up to a millisecond before its age',
      },
      {
        find: 'else if (frame.length === bytes)',
        replace: 'else if (frame.length <= bytes)',
        why: 'text that is not ASCII arrives garbled',
        tests: [{ in: 'frame-ring', only: 'text as UTF-8' }],
      },
      {
        find: 'seq - this.seq <= MAX_INT32 && ',
        replace: '',
        why: 'publishing throws after two billion events of other topics',
      },
      {
        find: 'const most = this.startOf(place) + maxBytes;',
        replace: 'const most = maxBytes;',
        why: 'a client that catches up gets one event a turn',
        tests: [{ in: 'frame-ring', only: 'as many frames as fit' }],
      },
    ],
  ),
  ...mutantsOf(
    'silence.ts',
    ['silence'],
    [
      {
        find: 'if (item === this.#newest) return;',
        replace: 'if (item === this.#newest || item.newer !== undefined) return;',
        why: 'the oldest topics lose their history, though they are busy',
        tests: ['history'],
      },
      {
        find: 'item.older = item.newer = undefined;',
        replace: 'item.newer = undefined;',
        why: 'a forgotten topic that comes back cuts others off the order',
      },
    ],
  ),
  ...mutantsOf(
    'newest.ts',
    ['newest'],
    [
      {
        find: 'this.#next[replaced & mask] = replaced + 1;',
        replace: '',
        why: 'a conflating client gets values that were replaced',
      },
      {
        find: 'this.#keys[replaced & mask] = undefined;',
        replace: '',
        why: 'a value whose older one was dropped is no longer replaced by newer ones',
      },
      {
        find: 'this.#places.delete(key);',
        replace: '',
        why: 'the keys of dropped events stay in memory',
      },
      {
        find: 'if (this.#first === this.#end) [',
        replace: 'if (this.#first < 0) [',
        why: 'the index of an emptied topic keeps its memory',
      },
      {
        find: '(this.#end - this.#first) * 4 <= length',
        replace: 'length < 0',
        why: 'the index of a topic never shrinks',
      },
      {
        find: 'if (place < this.#first) return place;',
        replace: '',
        why: 'a conflating client misses events from before the first key',
      },
    ],
  ),
  ...mutantsOf(
    'recent.ts',
    ['recent'],
    [
      {
        find: 'if (figures.length > this.#length)',
        replace: 'if (figures.length > 2 * this.#length)',
        why: 'figures are kept for longer than their bound',
      },
      {
        find: 'now - this.#takenAt) / 1000',
        replace: 'this.#interval) / 1000',
        why: 'after a late timer a rate is higher than what was counted',
      },
    ],
  ),
  ...mutantsOf(
    'pages.ts',
    ['pages'],
    [
      {
        find: 'heap[child + 1]!.seq < heap[child]!.seq',
        replace: 'heap[child + 1]!.seq > heap[child]!.seq',
        why: 'events of three topics arrive out of order',
      },
      {
        find: 'if (left < 0 && runs.length > 0) break;',
        replace: 'if (left < 0) break;',
        why: 'an event larger than a page is never delivered',
      },
      {
        find: 'isNamed ? topicComment(source.name).length : 0',
        replace: '0',
        why: 'a page of events with the names of their topics is larger than a page may be',
        tests: [{ in: 'pages', only: 'comments that name topics' }],
      },
      {
        find: 'after < page.first',
        replace: 'after <= page.first',
        why: 'a client gets an event twice from a page that others share',
        race: 'two connections with one id',
      },
      {
        find: 'last.segment === this.#segment && last.to === this.place',
        replace: 'last.segment === this.#segment',
        why: 'values that were replaced are sent between those that were not',
      },
      {
        find: KEEP,
        replace: KEEP.replace(' || this.#kept.length > MAX_KEPT_PAGES', ''),
        why: 'small pages are kept without a bound',
        tests: [CACHE],
      },
      {
        find: KEEP,
        replace: KEEP.replace('this.#bytes > MAX_KEPT_BYTES || ', ''),
        why: 'large pages are kept without a bound',
        tests: [CACHE],
      },
      {
        find: 'kept.owner === owner && isNext',
        replace: 'isNext',
        why: 'a client gets events of topics that it does not follow',
        tests: [CACHE],
      },
      {
        find: 'isFirst(seen, entry.topic, entry.key)',
        replace: "isFirst(seen, '', entry.key)",
        why: 'a key of one topic replaces the same key of another one',
        tests: [{ in: 'pages', only: 'all entries without a key' }],
      },
      {
        find: 'countAfter(topics, middle) >= count',
        replace: 'countAfter(topics, middle) > count',
        why: 'a client that asks for the last three events gets four',
        tests: [{ in: 'pages', only: 'so many entries of all topics' }],
      },
      {
        find: 'seqOf(ring.first) - 1)',
        replace: 'seqOf(ring.first))',
        why: 'a client that begins with the earliest event misses that one',
      },
      {
        find: 'this.#kept = this.#kept.filter((kept) => kept.owner !== owner);',
        replace: '',
        why: 'pages of readers that have left stay in memory',
        tests: [CACHE],
      },
    ],
  ),
  ...mutantsOf('pages.ts', LOG_CACHE, [
    {
      find: 'one.owner === owner && one.page.after',
      replace: 'one.page.after',
      why: 'a client gets events of topics that it does not follow from a page that was read for others',
    },
    {
      find: 'one.page.after <= after && after',
      replace: 'after',
      why: 'a client misses what lies between its place and a page that others have read',
      property: 'no hole unsaid',
    },
    {
      find: 'after < one.page.until',
      replace: 'after <= one.page.until',
      why: 'a client that has all of a page gets it again, without an event, for ever',
    },
    {
      find: 'seqs[middle]! > after',
      replace: 'seqs[middle]! >= after',
      why: 'a client gets an event twice from a page that others have read',
      race: 'two connections with one id',
    },
    {
      find: '(end += frame.length + idLength(id))',
      replace: '(end += frame.length)',
      why: 'a client gets a page that begins in the middle of an event',
    },
    {
      find: 'rest.length < MIN_PART_BYTES ? Buffer.from(rest) : rest',
      replace: 'rest',
      why: 'slow readers hold large pages in memory of which they need the end',
    },
    {
      find: KEEP_OF_LOG,
      replace: KEEP_OF_LOG.replace(' || this.#kept.length > MAX_KEPT_PAGES', ''),
      why: 'small pages that were read from a log are kept without a bound',
    },
    {
      find: KEEP_OF_LOG,
      replace: KEEP_OF_LOG.replace('this.#bytes > MAX_KEPT_BYTES || ', ''),
      why: 'large pages that were read from a log are kept without a bound',
    },
    {
      find: 'this.#kept = owner === undefined ? [] : ',
      replace: 'if (owner !== undefined) this.#kept = ',
      why: 'a client is given what was deleted',
    },
    {
      find: 'this.#bytes = this.#kept.reduce((sum, { page }) => sum + page.bytes.length, 0);\n    this.clears++;',
      replace: 'this.clears++;',
      why: 'pages of a log are shared no more once some were deleted',
    },
  ]),
  ...mutantsOf(
    'replay.ts',
    ['replay'],
    [
      {
        find: 'if (seq < this.#dropped) return -1;',
        replace: '',
        why: 'who asks for entries that were dropped gets the rest, as if it were all',
        property: 'no hole unsaid',
      },
      {
        find: 'while (this.#bytes + entry.bytes > this.#maxBytes) this.#dropOldest();',
        replace: 'if (this.#bytes + entry.bytes > this.#maxBytes) this.#dropOldest();',
        why: 'a large entry after small ones breaks `maxBytes`',
      },
      {
        find: 'this.#slots[this.#start] = undefined;',
        replace: '',
        why: 'dropped entries stay in memory',
      },
      {
        find: 'if (this.#size === 0 && this.#slots.length > MIN_SLOTS)',
        replace: 'if (false)',
        why: 'a buffer that was full once keeps its slots',
      },
      {
        find: 'entry.seq > this.#last)',
        replace: 'entry.seq >= this.#last)',
        why: 'one place is given to two entries',
      },
      {
        find: 'oldest.at < oldestAllowed',
        replace: 'oldest.at <= oldestAllowed',
        why: 'an entry is dropped that is exactly as old as it may be',
      },
    ],
  ),
  ...mutantsOf(
    'order.ts',
    ['order', 'hub.odd'],
    [
      {
        find: 'return Math.max(1, ',
        replace: 'return Math.min(1, ',
        why: 'each life of a hub has the same epoch, so that ids from before a restart match other events',
        race: 'restart of a memory log',
      },
      {
        find: ' + Math.floor(random() * 1000)',
        replace: '',
        why: 'two hubs that start in one millisecond take the ids of each other',
      },
      {
        find: 'if (id === undefined) return { seq: head,',
        replace: 'if (id === undefined) return { seq: 0,',
        why: 'a client with a malformed id gets everything again after its gap',
        race: 'unknown, malformed, future, foreign id',
      },
      {
        find: "{ seq: head, gap: 'unknown-epoch'",
        replace: "{ seq: id.seq, gap: 'unknown-epoch'",
        why: 'a client of another life of the hub continues at the seq that it had there',
        race: 'restart of a memory log',
      },
      {
        find: "gap: 'ahead', ",
        replace: '',
        why: 'a client with an id from the future is taken for one that has everything',
        race: 'unknown, malformed, future, foreign id',
      },
      {
        find: 'const own = { readyId: lastEventId,',
        replace: 'const own = { readyId: this.position,',
        why: 'a client that is cut after ready never gets what it had missed before',
        race: 'cut before the first event',
      },
      {
        find: 'if (seq !== this.#seq)',
        replace: 'if (seq > this.#seq)',
        why: 'an older position is told with the id of a newer one',
      },
      {
        find: 'number < end && number > -Infinity',
        replace: 'number > -Infinity',
        why: 'a `random` that answers 1 or more gives clients a `retry` out of its range',
      },
    ],
  ),
];
