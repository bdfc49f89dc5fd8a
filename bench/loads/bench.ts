// Runs one bench in a process of its own, so that no other bench has filled its heap or changed how V8
// compiled the code, and prints the measurements as JSON.
//
//   node --expose-gc --import tsx bench/loads/bench.ts <bench> <rounds> <milliseconds of each>

import type { Bench } from '../harness.ts';

const [name, rounds, round] = process.argv.slice(2);
const { bench } = (await import(`../${name}.bench.ts`)) as { bench: Bench };
console.log(JSON.stringify(await bench({ rounds: Number(rounds), round: Number(round) })));
