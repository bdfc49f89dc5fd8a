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
//   reads    `gc`: collects garbage
//   prints   `gone <bytes of the heap and of external memory>`, of a server on Node
//   reads    `profile`: begins to sample where the time goes; `profile <file>` ends that and writes it there
//   prints   `profiled`
//
// `lead.ts` starts it, compiled by `plain.ts`. Its argument is the peer: a path relative to `peers/`, without
// `.ts`.

import { writeFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';
import { createInterface } from 'node:readline';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { StartPeer } from '../peers/peer.ts';
import { type Filling, now, textOf } from './texts.ts';
import { takeTurns } from './turns.ts';

const [name = 'sluice'] = process.argv.slice(2);
const { default: start } = (await import(`../peers/${name}.ts`)) as { default: StartPeer };
const session = new Session();
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
  if (order === 'profile') {
    await profile(words[0]);
    console.log('profiled');
  }
}
process.exit(0);

/** Begins to sample what this process does, every tenth of a millisecond; with a file, ends and writes that there. */
async function profile(file: string | undefined): Promise<void> {
  if (file !== undefined) {
    const { profile } = await session.post('Profiler.stop');
    writeFileSync(file, JSON.stringify(profile));
    return;
  }
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.setSamplingInterval', { interval: 100 });
  await session.post('Profiler.start');
}

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
