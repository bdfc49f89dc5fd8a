// Faults in what stands between a hub and its log: staging, publisher, follower, arrivals, and epochs.

import { type Mutant, mutantsOf } from '../mutant.ts';

const DELETED = { in: 'hub.log', only: 'a topic that was deleted' };
const SHARED_PAGES = { in: 'hub.log', only: 'readers that come back together' };

export const log: readonly Mutant[] = [
  ...mutantsOf(
    'staging.ts',
    ['hub.log'],
    [
      {
        find: 'for (const { reject } of waiting) reject(this.failure!);\n      return;',
        replace: 'for (const { reject } of waiting) reject(this.failure!);',
        why: 'readers get an event that the log has refused, and that is gone after a restart',
        property: 'append before deliver',
      },
      {
        find: 'this.#newest = one.entry.seq;',
        replace: '',
        why: 'two events of one turn get the same id',
        property: 'append before deliver',
      },
      {
        find: "if (typeof answer?.then !== 'function') return;",
        replace: 'if (answer !== null) return;',
        why: 'an event is delivered while a log that answers later may still refuse it',
        property: 'append before deliver',
      },
      {
        find: 'if (this.#bytes > MAX_STAGED_BYTES) this.commit();\n    else ',
        replace: '',
        why: 'a loop that publishes without end takes memory without a bound',
      },
      {
        find: 'Math.min(delay * 2, MAX_PROBE_DELAY)',
        replace: 'delay * 2',
        why: 'a log that was full for an hour is not tried again for the next hour',
      },
      {
        find: 'this.#isFailing = false;',
        replace: '',
        why: 'one failure of the log stops publishing for good',
      },
      {
        find: 'if (records.size > 0) this.#records = new Map();',
        replace: '',
        why: 'a publisher that sends again what the log has refused is told that it is published',
        property: 'a retried append publishes once',
      },
      {
        find: 'Math.min(record.last, head)',
        replace: 'record.last',
        why: 'an event that waits for the log counts as lost to its readers',
      },
    ],
  ),
  ...mutantsOf(
    'publisher.ts',
    ['hub.publish', 'hub.log'],
    [
      {
        find: 'checkOpen(prepared); // `toJSON` may have ended it',
        replace: '',
        why: 'a topic takes an event after its end, which its readers never get',
      },
      {
        find: ': Buffer.from(text, ',
        replace: ': text; Buffer.from(text, ',
        why: 'a key keeps the whole text in memory of which it is a part',
      },
      {
        find: 'if (this.#isPublishing) throw insideError();\n    const failure',
        replace: 'const failure',
        why: 'an event that is published while another one is made gets the same id',
      },
      {
        find: 'size.add(one);',
        replace: '',
        why: 'a batch whose list says a wrong length is larger than half of its topic',
        property: 'batches are atomic up to a stated size',
      },
      {
        find: 'if (known.record.digest !== idempotency?.digest)',
        replace: 'if (known.record.digest === null)',
        why: 'another event under a used key is taken for published, and is lost',
        property: 'a retried append publishes once',
        tests: ['hub.log'],
      },
      {
        find: 'await known.kept;',
        replace: '',
        why: 'a retry is told that its event is published before the log has taken it',
        property: 'three outcomes of an append',
        tests: ['hub.log'],
      },
      {
        find: 'if (follower?.failure !== undefined) throw follower.failure;',
        replace: '',
        why: 'a publisher waits for as long as the log cannot be reached',
        property: 'away is not gone',
        tests: ['hub.shared'],
      },
    ],
  ),
  ...mutantsOf(
    'hub.ts',
    ['hub.log'],
    [
      {
        find: 'this.#publisher.commitBefore();',
        replace: '',
        why: 'the end of a topic overtakes its last events on the way to the log',
      },
      {
        find: 'this.#publisher.commit();\n      start',
        replace: 'start',
        why: 'a publisher that subscribes after its own event is told of a gap',
        property: 'read your writes',
      },
      {
        find: "if (change === 'end' && !this.#listed(name) && !isKnown()) return false;",
        replace: '',
        why: 'each name that somebody tries to end is kept in the log as a topic',
        tests: [DELETED],
      },
      {
        find: '.some(({ deleted }) => deleted !== true)',
        replace: '.length > 0',
        why: 'to end a topic that was deleted, and that nobody follows, brings it back',
        tests: [DELETED],
      },
      {
        find: ' && !this.#listed(name) && !isKnown()',
        replace: ' && !isKnown()',
        why: 'a topic that was deleted and is followed can no longer be ended',
        tests: [DELETED],
      },
      {
        find: 'const isChanged = log.change(name, change);',
        replace: 'const isChanged = true;',
        why: 'a topic that has ended goes on after a restart',
      },
      {
        find: 'this.#delivery.forgetLogPages();',
        replace: '',
        why: 'a client is given what was deleted, from a page that others have read',
        tests: [SHARED_PAGES],
      },
    ],
  ),
  ...mutantsOf(
    'log.ts',
    ['hub.shared'],
    [
      {
        find: "logError('ERR_SSE_OUTCOME_UNKNOWN',",
        replace: "logError('ERR_SSE_LOG_UNAVAILABLE',",
        why: 'a publisher is told that its event is certainly not in the log, and publishes it twice',
        property: 'three outcomes of an append',
      },
    ],
  ),
  ...mutantsOf(
    'follower.ts',
    ['hub.shared'],
    [
      {
        find: 'for (const { name } of endedBefore) history.reopen(name);',
        replace: '',
        why: 'a reader is refused for the end of a topic that the store has lost, and never comes back',
        tests: [{ in: 'hub.shared', only: 'refuses no reader for the end' }],
      },
      {
        find: 'if (seq <= order.head) continue;',
        replace: '',
        why: 'what a log tells twice leaves memory, and each client reads it from the log',
      },
      {
        find: 'if (seq > order.head + 1) this.#skipTo(seq - 1);',
        replace: '',
        why: 'what was not received from the log is lost in silence',
        property: 'no hole unsaid',
      },
      {
        find: 'order.base + oldEnd);\n    this.#options.delivery().forgetLogPages();',
        replace: 'order.base + oldEnd);',
        why: 'pages that were read from the log before a promotion stay in memory',
        equivalent:
          'a shared log is not asked for what is older than its epoch, and no page leads over a boundary',
      },
      {
        find: 'if (order.epoch !== epoch) return;\n      for',
        replace: 'for',
        why: 'the old epoch says how topics are in the new one',
      },
      {
        find: 'this.#isOutdated = !isFirst;',
        replace: 'this.#isOutdated = false;',
        why: 'a stream stays open for a topic that has ended, in the epoch before and in this one',
      },
      {
        find: 'order.renew(epoch, order.base + oldEnd);',
        replace: 'order.renew(epoch, order.head);',
        why: 'after a promotion, clients get events that the store has lost',
        race: 'promotion with a lost tail, client ahead',
      },
      {
        find: 'this.#isClosed || epoch === order.epoch',
        replace: 'this.#isClosed',
        why: 'each reconnection to a log that has lost nothing costs every client a gap',
        race: 'restart of Redis without loss',
      },
      {
        find: 'this.#isAway = true;',
        replace: '',
        why: 'publishers wait for a log that cannot be reached, and nobody is told',
        property: 'away is not gone',
      },
      {
        find: 'this.#options.delivery().resume();',
        replace: '',
        why: 'a reader that waited for the log gets nothing more once it is back',
        property: 'away is not gone',
      },
      {
        find: "if (!this.#isAway) this.#options.onError(error, 'follow');",
        replace: "this.#options.onError(error, 'follow');",
        why: 'a log that is away fills the log file of the application',
      },
      {
        find: 'if (!told.has(name)) this.#apply',
        replace: 'this.#apply',
        why: 'an old answer of the log undoes the end of a topic',
      },
      {
        find: ' || (record?.last ?? 0) > order.head) return;',
        replace: ') return;',
        why: 'a topic that has ended elsewhere ends here before its last events have arrived',
        race: 'end of topic during replay',
      },
      {
        find: 'this.#pass(entry.topic, seq);',
        replace: '',
        why: 'an event that is too large for this process is lost in silence',
        property: 'no hole unsaid',
      },
      {
        find: 'if (history.endOf(name) !== undefined) history.reopen(name);',
        replace: '',
        why: 'a topic that goes on elsewhere stays ended here',
      },
    ],
  ),
  ...mutantsOf(
    'arrivals.ts',
    ['hub.shared'],
    [
      {
        find: 'if ((start.isAhead === true && !this.#isLossy) || !follower!.hasBegun) {',
        replace: 'if (!follower!.hasBegun) {',
        why: 'a client that comes from a faster process is told of a gap, and gets its events again',
        race: 'reconnect to a process that lags',
        property: 'a client ahead of this node waits',
      },
      {
        find: 'this.#decide(new Set());',
        replace: 'this.#decide(new Set(this.#ahead));',
        why: 'a client from a faster process is told of a gap at the first event that arrives',
        race: 'reconnect to a process that lags',
        property: 'a client ahead of this node waits',
      },
      {
        find: 'if (this.#options.follower!.failure === undefined) this.#askAgain(',
        replace: 'this.#askAgain(',
        why: 'while the log is away, each client that comes from another process is told of a gap',
        property: 'away is not gone',
      },
      {
        find: 'if (known !== undefined) this.#decide(due);',
        replace: 'this.#decide(due);',
        why: 'before a process notices that the log does not answer, a client from another one is told of a gap',
        property: 'a client ahead of this node waits',
      },
      {
        find: 'if (known === undefined) arrival.since = Infinity;',
        replace: 'if (false) arrival.since = Infinity;',
        why: 'when a log answers again, a client from another process is told of a gap before its events arrive',
        property: 'a client ahead of this node waits',
      },
      {
        find: "!follower!.hasBegun && request.given === '' ? unreadableId : request.given",
        replace: 'request.given',
        why: 'a client that comes before the log is reached misses what was published meanwhile',
        property: 'no hole unsaid',
      },
      {
        find: 'const seq = Math.max(arrival.head, order.base);',
        replace: 'const seq = order.head;',
        why: 'a client that comes for the first time misses what is published while the log is asked',
        property: 'no hole unsaid',
      },
      {
        find: 'const seq = Math.max(arrival.head, order.base);',
        replace: 'const seq = arrival.head;',
        why: 'a client that comes for the first time just before a promotion is told of a gap that it does not have',
      },
      {
        find: "given === '' && arrival.cameAfterStart",
        replace: "given === ''",
        why: 'a client that comes for the first time before the log is reached is given all of its past',
      },
      {
        find: 'if (order.epoch !== epoch) return void delivery().end(cursor);',
        replace: '',
        why: 'a client begins at a place of an order that is over',
      },
      {
        find: 'if (lost !== undefined) cursor.accept(lost);',
        replace: '',
        why: 'a client that comes for the first time is told that it has lost what it never asked for',
      },
    ],
  ),
  ...mutantsOf(
    'cursors.ts',
    [{ in: 'delivery', only: 'names the topic of each event' }],
    [
      {
        find: 'if (group.namesTopics) entries',
        replace: 'if (group.conflates) entries',
        why: 'events that come from a log do not name their topics',
      },
    ],
  ),
  ...mutantsOf(
    'cursors.ts',
    ['hub.shared', 'hub.log'],
    [
      {
        find: ', order.endOf(after))',
        replace: ')',
        why: 'a page of the log leads over the end of an order without a gap',
        race: 'promotion with a lost tail, client ahead',
      },
    ],
  ),
  ...mutantsOf(
    'cursors.ts',
    [SHARED_PAGES],
    [
      {
        find: ' + count * LOG_LOOK_COST',
        replace: '',
        why: 'one turn reads thousands of events from the log, and those who are live wait',
        property: 'deep replays do not stall live',
      },
    ],
  ),
  ...mutantsOf(
    'delivery.ts',
    ['hub.shared', 'hub.log'],
    [
      {
        find: 'if (end !== Infinity) return this.#cross(cursor);',
        replace: '',
        why: 'a client goes on in another order without hearing of what it has lost',
        race: 'promotion with a lost tail, client ahead',
      },
      {
        find: 'if (log.failure !== undefined) return this.#await(cursor);',
        replace: '',
        why: 'streams end while the log cannot be reached',
        property: 'away is not gone',
      },
    ],
  ),
  ...mutantsOf(
    'delivery.ts',
    [SHARED_PAGES],
    [
      {
        find: 'if (this.#order.epoch === epoch) this',
        replace: 'if (true) this',
        why: 'a client gets events of a new order under ids of the old one',
        race: 'promotion with a lost tail, client ahead',
        tests: ['hub.shared'],
      },
      {
        find: 'this.#logPages.find(group, seq, this.#time) : undefined',
        replace: 'undefined : undefined',
        why: 'a thousand clients that come back together read the same pages a thousand times',
        property: 'deep replays do not stall live',
      },
      {
        find: ' && !cursor.hasReportedLost',
        replace: '',
        why: 'a client is not told of a loss, because it gets the page of another one that was',
        tests: ['hub.log.odd'],
      },
      {
        find: '!cursor.group.conflates && !cursor',
        replace: '!cursor',
        why: 'a conflating client gets values that were replaced since others have read the page',
      },
      {
        find: 'this.#logPages.clear(group);',
        replace: '',
        why: 'a client is given what was deleted, from a page that others have read',
      },
      {
        find: 'if (cursor.group.tellLost(lost)) this',
        replace: 'if (false) this',
        why: 'a client that was told of a loss and comes back gets what is lost, from a page that was read before',
        tests: ['hub.log.odd'],
      },
      {
        find: 'if (cursor.group.tellLost(lost)) this',
        replace: 'cursor.group.tellLost(lost); this',
        why: 'of a thousand clients that come back to a loss together, each reads the log by itself',
        tests: ['hub.log.odd'],
      },
    ],
  ),
  ...mutantsOf(
    'feed.ts',
    [{ in: 'feed', only: 'with a log' }],
    [
      {
        find: 'const page = hub.log === undefined ? undefined :',
        replace: 'const page = hub.log !== null ? undefined :',
        why: 'a line that the log refuses is lost, and its source goes on',
        property: 'append before deliver',
      },
      {
        find: 'if (isUnknown(error)) throw error;\n      }',
        replace: '}',
        why: 'a page that may be in the log is published again',
        property: 'three outcomes of an append',
      },
      {
        find: 'if (isUnknown(error)) throw error;\n      const',
        replace: 'const',
        why: 'a line that may be in the log is published again',
        property: 'three outcomes of an append',
      },
      {
        find: 'await this.#hub.appendAll!(this.#topic, events);',
        replace: 'void this.#hub.appendAll!(this.#topic, events);',
        why: 'a source is read faster than the log can take it',
      },
      {
        find: 'await Promise.race([pull, nextTurn()])',
        replace: 'await pull',
        why: 'a line waits until its source has given a page of them',
      },
      {
        find: 'this.#pull ??= this.next();',
        replace: 'this.#pull = this.next();',
        why: 'the first line after a pause is lost',
      },
      {
        find: 'if (pulled.done) return { events, done: true };',
        replace: 'if (pulled.done) return { events: [], done: true };',
        why: 'the last lines of a source are lost',
      },
      {
        find: ' || bytes >= maxBytes;',
        replace: ';',
        why: 'a page of long lines takes memory, and is more than its topic may hold',
      },
      {
        find: 'this.#signal?.throwIfAborted();\n      return undefined;',
        replace: 'throw new Error();',
        why: 'the last lines before a source has failed are lost',
      },
    ],
  ),
  ...mutantsOf(
    'order.ts',
    ['hub.log', 'hub.shared'],
    [
      {
        find: 'if (seq <= parent.end) return',
        replace: 'if (seq <= this.head) return',
        why: 'a client ahead of what a promotion has kept goes on in silence once others have published',
        race: 'promotion, then the head passes the client',
      },
      {
        find: "gap: 'store-changed', ...own",
        replace: '...own',
        why: 'a client that had more than a promotion has kept is not told',
        race: 'promotion with a lost tail, client ahead',
      },
      {
        find: 'Math.max(this.#base, Math.min(oldEnd, this.head))',
        replace: 'this.head',
        why: 'what the minority of a split has accepted, and the store has lost, counts as kept',
        race: 'split brain, both accept',
      },
      {
        find: 'this.#seq = -1;\n  }',
        replace: '}',
        why: 'a hub has no position until its log tells the first event',
      },
      {
        find: 'const isAhead = id.epoch > this.#epoch;',
        replace: 'const isAhead = false;',
        why: 'a client that has heard of a promotion before this process has gets a false gap',
        property: 'a client ahead of this node waits',
      },
    ],
  ),
];
