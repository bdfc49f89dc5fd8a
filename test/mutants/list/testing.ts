// Faults in the test kit: what makes a test of others pass that should fail, or wait for ever.

import { type Mutant, mutantsOf } from '../mutant.ts';

export const testing: readonly Mutant[] = [
  ...mutantsOf(
    'checker.ts',
    ['checker'],
    [
      {
        find: "return seen[number] === 1 ? 'silent-hole' : 'lost-write';",
        replace: 'return undefined;',
        why: 'an event that was lost without a gap is not missed',
      },
      {
        find: "if (comparePlaces(place, last) > 0) return 'unseen-tail';",
        replace: 'if (comparePlaces(place, last) > 0) return undefined;',
        why: 'a stream that stops before its end passes',
      },
      {
        find: 'const isLate = isOlder ||',
        replace: 'const isLate =',
        why: 'an event of an older epoch after one of a newer passes',
      },
      {
        find: 'isNotAfter(place, after) || isNotAfter(place, this.#lastEvent)',
        replace: 'false',
        why: 'events in another order pass',
      },
      {
        find: 'else if (isNotAfter(place, this.#renewal)',
        replace: 'else if (isNotAfter(place, undefined)',
        why: 'a gap may call lost what a new epoch then delivers',
      },
      {
        find: 'const number = isNumber(told) ? told : undefined;',
        replace: 'const number = told;',
        why: 'content that is no number breaks the ranges, and duplicates pass',
      },
      {
        find: "const isLost = this.#options.kind === 'published' && record.last === undefined;",
        replace: 'const isLost = false;',
        why: 'a reader that has received nothing at all passes',
      },
      {
        find: "if (kind !== 'published' && isReference !== (this.#readers.length === 0))",
        replace: 'if (false)',
        why: 'a comparison without anything to compare with passes',
      },
      {
        find: 'const delivered = covered.find((number) => this.received.has(number));',
        replace: 'const delivered = undefined;',
        why: 'a gap may call lost what was delivered',
      },
      {
        find: 'if (comparePlaces(placeOf(i - 1), placeOf(i)) !== 0) continue;',
        replace: 'continue;',
        why: 'two events of one id are not noticed',
      },
      {
        find: 'const verdict = this.#findings.copy();',
        replace: 'const verdict = this.#findings;',
        why: 'a verdict that is asked for twice counts twice',
      },
    ],
  ),
  ...mutantsOf(
    'collect.ts',
    ['testing.collect'],
    [
      {
        find: 'event.event === controlEvents.gap || this.#options',
        replace: 'this.#options',
        why: 'a gap is left out, so that a loss looks like none',
      },
      {
        find: "if (typeof getReader === 'function') return",
        replace: 'if (getReader === null) return',
        why: 'a stream of the Web stays open and locked after the time-out',
      },
      {
        find: 'clearTimeout(collection.timer);\n    collection.close();',
        replace: 'clearTimeout(collection.timer);',
        why: 'the connection of the source stays open',
      },
    ],
  ),
  ...mutantsOf(
    'raw-reader.ts',
    ['testing.readers'],
    [
      {
        find: 'if (source.readableEnded || source.closed) end();',
        replace: '',
        why: 'whoever waits for the end of what has ended waits for ever',
      },
      {
        find: 'const read = bytes.subarray(0, this.#limit - this.bytes);',
        replace: 'const read = bytes;',
        why: 'a connection is not cut in the middle of what comes in one piece',
      },
    ],
  ),
  ...mutantsOf(
    'fake-clock.ts',
    ['testing.clock'],
    [
      {
        find: 'if (present !== undefined && present.value !== value) continue;',
        replace: '',
        why: 'other fake timers that have gone are put back, and no timer fires any more',
      },
      {
        find: 'isOn() ? clock.setTimeout(callback, delay, ...args) : setTimeout(callback, delay, ...args);',
        replace: 'clock.setTimeout(callback, delay, ...args);',
        why: 'what has kept a function of the clock waits for ever after it',
      },
      {
        find: 'if (Number.isFinite(duration) && duration >= 0) return duration;',
        replace: 'return duration;',
        why: 'a test that passes NaN milliseconds passes none, and nothing falls due',
      },
      {
        find: 'for (const timer of this.#timers) if (first === undefined || timer.due < first.due) first = timer;',
        replace: 'for (const timer of this.#timers) first ??= timer;',
        why: 'timers are called in the order in which they were set',
      },
    ],
  ),
  ...mutantsOf(
    'writer.ts',
    ['testing.clock'],
    [
      {
        find: ' || setter !== setInterval)',
        replace: ')',
        why: 'beside a stream that an earlier test has left open, no deadline is ever met',
      },
    ],
  ),
  ...mutantsOf(
    'order.ts',
    ['testing.clock'],
    [
      {
        find: 'const systemTime = (): number => Date.now();',
        replace: 'const systemTime = Date.now;',
        why: 'a hub from before a fake clock forgets nothing by age under it',
      },
    ],
  ),
  ...mutantsOf(
    'socket-pair.ts',
    ['testing.memory', 'testing.memory.real'],
    [
      {
        find: 'if (other.#heldBytes < other.#capacity) done();',
        replace: 'if (other !== undefined) done();',
        why: 'a client that does not read makes nobody wait',
      },
      {
        find: 'this.#isReset || this.#heldBytes > 0 || this.readableLength > 0',
        replace: 'this.#isReset',
        why: 'closing what was not read is no reset',
      },
      {
        find: 'this.#silence?.refresh();\n      this.#isWanting',
        replace: 'this.#isWanting',
        why: 'a connection that is in use times out as if it were silent',
      },
    ],
  ),
  ...mutantsOf(
    'memory-server.ts',
    ['testing.memory', 'testing.memory.real'],
    [
      {
        find: 'near.allowHalfOpen = false;',
        replace: '',
        why: 'a client that the server has left never closes',
      },
    ],
  ),
  ...mutantsOf(
    'chaos-proxy.ts',
    ['testing.proxy'],
    [
      {
        find: 'if (link.hasLost) link.reset();\n      else link.resume();',
        replace: 'link.resume();',
        why: 'after a black hole, a reader takes the rest of a stream for all of it',
      },
      {
        find: 'else socket.resetAndDestroy();',
        replace: 'else socket.destroy();',
        why: 'a reset is an orderly end',
      },
      {
        find: 'this.#queuedBytes > MOST_QUEUED)) this.#from.pause();',
        replace: 'false)) this.#from.pause();',
        why: 'what a client does not read is held in memory without a limit',
      },
    ],
  ),
];
