// Faults in the hub itself: hub, cursors, delivery.

import { type Mutant, mutantsOf } from '../mutant.ts';

export const hub: readonly Mutant[] = [
  ...mutantsOf(
    'hub.ts',
    ['hub.subscribe', 'hub'],
    [
      {
        find: '(0.75 + this.#random() / 2)',
        replace: '1',
        why: 'all clients come back at the same moment',
      },
      {
        find: 'if (--group.size === 0)',
        replace: 'if (--group.size >= 0)',
        why: 'when one of two connections leaves, the other one gets nothing more',
        race: 'two connections with one id',
      },
      {
        find: 'if (forgotten !== undefined) cursor.accept(forgotten);',
        replace: '',
        why: 'a client that comes for the first time is told that it has lost what it never asked for',
      },
      {
        find: "ignoreErrors(() => sink.off('drain', cursor.onDrain));",
        replace: '',
        why: 'a sink that outlives its subscription keeps a listener of the hub',
        tests: [{ in: 'delivery', only: 'removes its listeners' }],
      },
    ],
  ),
  ...mutantsOf(
    'cursors.ts',
    ['hub.subscribe', { seeds: 300 }],
    [
      {
        find: 'if (seq > known) lost.push(',
        replace: 'if (seq < known) lost.push(',
        why: 'what a log drops during a replay is skipped in silence',
        race: 'trimming while paging a long replay',
        tests: ['races', 'delivery'],
      },
      {
        find: '.sort((a, b) => a.seq - b.seq)\n    .map',
        replace: '.map',
        why: 'gaps of several topics arrive in any order, and a later one takes the client back',
        tests: ['hub.subscribe'],
      },
      {
        find: 'this.#shared.pages.delete(group);',
        replace: '',
        why: 'pages of clients that have left stay in memory',
        tests: [{ in: 'delivery', only: 'clients that have all left' }],
      },
      {
        find: ' && seq > cursor.reportedLost(topic)',
        replace: '',
        why: 'a client gets the same gap again and again',
      },
      {
        find: 'this.#holdsAllAfter(after) ?',
        replace: 'true ?',
        why: 'an event arrives that a gap has called lost, from a page that was kept',
        race: 'eviction between check and read',
        tests: [{ in: 'delivery', only: 'not even from a page' }],
      },
      {
        find: 'if (!isLast && !this.conflates)',
        replace: 'if (!this.conflates)',
        why: 'a page that ends at the head is given to later clients without what came since',
        tests: [{ in: 'delivery', only: 'does not keep the last page' }],
      },
      {
        find: 'if (!isLast && !this.conflates)',
        replace: 'if (!isLast)',
        why: 'a conflating client gets values that were replaced meanwhile',
        tests: [{ in: 'delivery', only: 'keeps no page of a conflating' }],
      },
      {
        find: 'this.preamble?.id ?? ',
        replace: '',
        why: 'a heartbeat carries the new position to a client that has not got its gap yet',
        race: 'cut after the gap is written but before it arrives',
      },
      {
        find: 'Math.max(this.group.order.settled, this.seq)',
        replace: 'this.group.order.head',
        why: 'a client that has just caught up is passed over by what is published in that turn',
        race: 'publish between replay and join',
      },
      {
        find: 'if (answer === true) return true;',
        replace: 'if (answer) return true;',
        why: 'a `may` that answers with a promise lets everybody read',
      },
      {
        find: 'this.moveTo(Math.min(',
        replace: 'this.moveTo(Math.max(',
        why: 'a gap of one topic swallows events of another one',
        property: 'no hole unsaid',
      },
    ],
  ),
  ...mutantsOf(
    'cursors.ts',
    ['races', { seeds: 300 }],
    [
      {
        find: 'let until = Math.max(after, Math.min(read.until, order.head',
        replace: 'let until = Math.max(after, Math.max(read.until, order.head',
        why: 'a client is moved past what was published while its page was read',
        race: 'publish during an asynchronous read',
      },
    ],
  ),
  ...mutantsOf(
    'delivery.ts',
    ['hub.subscribe'],
    [
      {
        find: 'return cursor.isAsked || this.#hasLeft(cursor) ? undefined : page;',
        replace: 'return this.#hasLeft(cursor) ? undefined : page;',
        why: 'a reader whose permission has ended gets the page that another one has just got',
      },
      {
        find: 'return cursor.isAsked || this.#hasLeft(cursor) ? undefined : page;',
        replace: 'return cursor.isAsked ? undefined : page;',
        why: 'events are counted as delivered to a reader that has ended',
      },
    ],
  ),
  ...mutantsOf(
    'delivery.ts',
    ['races', { seeds: 300 }],
    [
      {
        find: "if (this.#hasLeft(cursor)) return 'over';\n    for (const gap",
        replace: 'for (const gap',
        why: 'a gap is written after the end of a stream that `controls` has ended',
        tests: [{ in: 'hub.odd', only: 'the gap is told again' }],
      },
      {
        find: ' || this.#spent > CATCH_UP_BYTES',
        replace: '',
        why: 'a crowd of returning clients delays the events of all others',
        property: 'deep replays do not stall live',
        tests: [{ in: 'delivery', only: 'a few at a time' }],
      },
      {
        find: "(outcome === 'blocked' && cursor.drainTurn === this.#turns)",
        replace: 'false',
        why: 'a client whose sink drains inside a write is never written to again',
        race: 'last wake-up lost before silence',
        tests: ['hub.odd'],
      },
      {
        find: 'if (this.#isInTurn) this.#needsAnother = true;',
        replace: '',
        why: 'what code appends that a write calls stays undelivered until somebody else asks for a turn',
        race: 'last wake-up lost before silence',
        tests: ['hub.log'],
      },
      {
        find: 'this.#rescue ??= setImmediate(this.#turn);',
        replace: '',
        why: 'the last event before a silence stays undelivered where `schedule` throws',
        race: 'last wake-up lost before silence',
        tests: ['hub.odd'],
      },
      {
        find: 'i === gaps.length - 1 ? id : from',
        replace: 'id',
        why: 'a client that is cut between two gaps never hears of the second one',
        race: 'cut after the gap is written but before it arrives',
      },
      {
        find: 'this.#order.settled = head;',
        replace: 'this.#order.settled = this.#order.head;',
        why: 'what a sink publishes to another topic while it is written to is not delivered',
        race: 'publish between replay and join',
      },
      {
        find: 'if (lost !== undefined) return',
        replace: 'if (lost === null) return',
        why: 'a slow client that was overtaken gets the newest events without a gap',
        race: 'slow client overtaken',
      },
      {
        find: "if (this.#hasLeft(cursor)) return 'over';\n    const { group",
        replace: 'const { group',
        why: 'a page is written to a client that left while it was read',
        race: 'reader disconnected mid-page',
        tests: ['hub.odd'],
      },
      {
        find: ' && !group.hasEnded',
        replace: '',
        why: 'a client that has just received everything of an ended topic waits for ever',
        race: 'end of topic during replay',
      },
      {
        find: "outcome === 'behind' && seq === this.#order.head &&",
        replace: "outcome === 'behind' &&",
        why: 'a client that returns is taken for one that has all once it was told that it may begin',
        tests: ['delivery', 'hub'],
      },
      {
        find: 'return cursor.heldAt === undefined ? this.#orHead(cursor, outcome) : outcome;',
        replace: 'return this.#orHead(cursor, outcome);',
        why: 'a client gets events before it is decided where it continues',
        tests: ['hub.shared'],
      },
      {
        find: 'return cursor.heldAt === undefined ? this.#orHead(cursor, outcome) : outcome;',
        replace: 'return outcome;',
        why: 'a new client must wait for all that catch up a second time, before it gets what is new',
        tests: ['delivery'],
      },
      {
        find: 'if (!cursor.isAllowed) return',
        replace: 'if (cursor.preamble && !cursor.isAllowed) return',
        why: 'a client goes on reading after its permission was withdrawn',
        race: 'permission withdrawn during replay',
      },
      {
        find: 'cursor.moveTo(page.until);',
        replace: 'cursor.moveTo(Math.max(page.until, this.#order.settled));',
        why: 'a client that catches up skips what lies between its page and the head',
        property: 'no hole unsaid',
      },
    ],
  ),
];
