// Faults in what `sluice load` measures, and in where it goes.

import { type Mutant, mutantsOf } from '../mutant.ts';

export const load: readonly Mutant[] = [
  ...mutantsOf(
    'command/load.ts',
    [{ in: 'command/load', only: 'puts a load on no other machine' }],
    [
      {
        find: 'addresses.find(({ address }) => !isLoopback(address))',
        replace: '[addresses[0]!].find(({ address }) => !isLoopback(address))',
        why: 'a name whose second address is on another machine gets the load',
      },
      {
        find: "headers = { 'user-agent': 'sluice load', ...(await requestHeaders(values, env)) }",
        replace: 'headers = await requestHeaders(values, env)',
        why: 'the load follows a redirect to another server',
        tests: [{ in: 'command/load', only: 'redirect to another server' }],
      },
      {
        find: 'this.#pending < MAX_PENDING',
        replace: 'this.#pending < Infinity',
        why: 'all requests are sent at once, so that the queue of the listening socket overflows',
        tests: [{ in: 'command/load', only: 'opens no more at a time' }],
      },
      {
        find: 'this.#due += 1000 / rate;',
        replace: '',
        why: 'streams that come back are asked for faster than --rate allows',
        tests: [{ in: 'command/load', only: 'ask for a return at once' }],
      },
    ],
  ),
  ...mutantsOf(
    'command/load-ids.ts',
    [{ in: 'command/load', only: 'lose an event for some readers' }],
    [
      {
        find: 'if (expected <= count) continue;',
        replace: 'if (expected <= count + 1) continue;',
        why: 'a stream that lacks a single event is taken for whole',
      },
      {
        find: 'seq <= this.#last.seq',
        replace: 'seq < this.#last.seq',
        why: 'an event that comes twice in a row is counted as two events',
        tests: [{ in: 'command/load', only: 'send an event twice' }],
      },
      {
        find: 'if (seq <= this.#piece!.start) return;',
        replace: '',
        why: 'an event within the gap of another topic hides a loss after it',
        tests: [{ in: 'command/load', only: 'expects of several topics' }],
      },
    ],
  ),
  ...mutantsOf(
    'command/load-histogram.ts',
    [{ in: 'command/load', only: 'percentiles that are at most' }],
    [
      {
        find: 'Math.ceil(this.count * part)',
        replace: 'Math.floor(this.count * part) + 1',
        why: 'a percentile is the duration after the one that it means',
      },
      {
        find: 'shift * STEPS + (micros >>> shift)',
        replace: 'shift * STEPS + (micros >>> (shift + 1))',
        why: 'durations above 64 µs are in the wrong buckets',
      },
    ],
  ),
  ...mutantsOf(
    'command/load-clock.ts',
    [{ in: 'command/load', only: 'figures do not count' }],
    [
      {
        find: 'Math.max(0, now - this.#due)',
        replace: 'Math.min(0, now - this.#due)',
        why: 'a load that was too slow to measure says nothing of it',
      },
    ],
  ),
];
