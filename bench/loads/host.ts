// Runs one server of `peers/` and publishes as standard input orders. Servers in other languages speak this
// protocol too:
//
//   prints   `port <port>` once it accepts connections
//   reads    `run <topics> <batch> <interval µs> <duration ms> <bytes> <x|json>`: each turn publishes `batch`
//            events to each topic `t0` …; a turn begins one interval after the last one began (0: when the
//            last is over)
//   prints   `done <turns> <µs since the first>` after the last turn
//   reads    `beat <ms>`: a floor sends each connection a comment once per interval from now on
//   prints   `beating`
//   reads    `gc`: collects garbage, and answers with the bytes of the heap and of external memory then
//   prints   `gone`
//
// `lead.ts` starts it, compiled by `plain.ts`. Its argument is the peer: a path relative to `peers/`, without
// `.ts`.

import { createInterface } from 'node:readline';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { StartPeer } from '../peers/peer.ts';
import { type Filling, now, textOf } from './texts.ts';
import { takeTurns } from './turns.ts';

const [name = 'sluice'] = process.argv.slice(2);
const { default: start } = (await import(`../peers/${name}.ts`)) as { default: StartPeer };
const peer = await start({ tokens, answer });
console.log(`port ${peer.port}`);

for await (const line of createInterface({ input: process.stdin })) {
  const [order, ...words] = line.split(' ');
  if (order === 'run') {
    const [topics, batch, interval, duration, bytes] = words.map(Number) as [
      number,
      number,
      number,
      number,
      number,
    ];
    const filling = words[5] as Filling;
    const { turns, elapsed } = await takeTurns(peer, { topics, batch, interval, duration, bytes, filling });
    console.log(`done ${turns} ${elapsed}`);
  }
  if (order === 'beat') {
    peer.beat?.(Number(words[0]));
    console.log('beating');
  }
  if (order === 'gc') {
    globalThis.gc?.();
    const { heapUsed, external } = process.memoryUsage();
    console.log(`gone ${heapUsed + external}`);
  }
}
process.exit(0);

/** The answer of a language model: 500 tokens, twenty in each turn, as fast as the client reads. */
async function* tokens(): AsyncGenerator<string> {
  for (let i = 1; i <= 500; i++) {
    if (i % 20 === 0) await nextTurn();
    yield textOf(i, now(), 0);
  }
}

/** The same, as what `of` makes of each token. */
async function* answer<T>(of: (text: string) => T, last: T): AsyncGenerator<T> {
  for (let i = 1; i <= 500; i++) {
    if (i % 20 === 0) await nextTurn();
    yield of(textOf(i, now(), 0));
  }
  yield last;
}
