// A process with one server of `peers/` in it, which publishes what it is told to on standard input. Every server
// under test speaks this protocol, whatever its language:
//
//   it says  `port <port>` once it accepts
//   told     `run <topics> <batch> <interval µs> <duration ms> <bytes> <x|json>` it publishes: each turn `batch`
//            events to each topic `t0` … ; a turn begins when its time has come (`interval` 0: when the last is over)
//   it says  `done <turns> <µs since the first>` after the last
//   told     `gc` it frees what it can, and says `gone`
//
//   node --import tsx bench/loads/host.ts <peer>

import { createInterface } from 'node:readline';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import type { Peer, StartPeer } from '../peers/peer.ts';
import { type Filling, now, textOf } from './texts.ts';

const [name = 'sluice'] = process.argv.slice(2);
const { default: start } = (await import(`../peers/${name}.ts`)) as { default: StartPeer };
const peer = await start({ tokens });
const published = new Map<string, number>();
console.log(`port ${peer.port}`);

for await (const line of createInterface({ input: process.stdin })) {
  const [order, ...words] = line.split(' ');
  if (order === 'run') await run(peer, words.slice(0, 5).map(Number), words[5] as Filling);
  if (order === 'gc') {
    globalThis.gc?.();
    console.log('gone');
  }
}
process.exit(0);

async function run({ publish }: Peer, numbers: readonly number[], filling: Filling): Promise<void> {
  const [topics, batch, interval, duration, bytes] = numbers as [number, number, number, number, number];
  const begin = now();
  const end = begin + duration * 1000;
  let turns = 0;
  for (let due = begin; due < end || turns === 0; due = interval > 0 ? begin + turns * interval : now()) {
    await until(due);
    for (let i = 0; i < topics; i++) publish(`t${i}`, nextTexts(`t${i}`, batch, due, bytes, filling));
    turns++;
    await nextTurn();
  }
  console.log(`done ${turns} ${now() - begin}`);
}

/** Timers are coarse to a millisecond, and early at times: the last two of them pass turn by turn. */
async function until(due: number): Promise<void> {
  const early = due - now();
  if (early > 2000) await sleep(early / 1000 - 2);
  while (now() < due) await nextTurn();
}

function nextTexts(topic: string, batch: number, time: number, bytes: number, filling: Filling): string[] {
  const from = (published.get(topic) ?? 0) + 1;
  published.set(topic, from + batch - 1);
  return Array.from({ length: batch }, (_, i) => textOf(from + i, time, bytes, filling));
}

/** An answer as a language model gives it, as fast as the client takes it: 500 tokens, twenty a turn. */
async function* tokens(): AsyncGenerator<string> {
  for (let i = 1; i <= 500; i++) {
    if (i % 20 === 0) await nextTurn();
    yield textOf(i, now(), 0);
  }
}
