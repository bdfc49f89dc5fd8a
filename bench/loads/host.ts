// A process with one server of `peers/` in it, which publishes what it is told to on standard input. Every server
// under test speaks this protocol, whatever its language:
//
//   it says  `port <port>` once it accepts
//   told     `run <topics> <batch> <interval µs> <duration ms> <bytes> <x|json>` it publishes: each turn `batch`
//            events to each topic `t0` … ; a turn begins when its time has come (`interval` 0: when the last is over)
//   it says  `done <turns> <µs since the first>` after the last
//   told     `beat <ms>` it sends each connection a comment every so often, if it is a floor, and says `beating`
//   told     `gc` it frees what it can, and says `gone`
//
// `lead.ts` starts it, compiled by `plain.ts`, with the name of the peer.

import { createInterface } from 'node:readline';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { StartPeer } from '../peers/peer.ts';
import { type Filling, now, textOf } from './texts.ts';
import { takeTurns } from './turns.ts';

const [name = 'sluice'] = process.argv.slice(2);
const { default: start } = (await import(`../peers/${name}.ts`)) as { default: StartPeer };
const peer = await start({ tokens });
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
    console.log('gone');
  }
}
process.exit(0);

/** An answer as a language model gives it, as fast as the client takes it: 500 tokens, twenty a turn. */
async function* tokens(): AsyncGenerator<string> {
  for (let i = 1; i <= 500; i++) {
    if (i % 20 === 0) await nextTurn();
    yield textOf(i, now(), 0);
  }
}
