// A process that runs one bench of this folder, so that no other has shaped its code or filled its heap, and tells
// what it found as JSON.
//
//   node --expose-gc --import tsx bench/loads/bench.ts <bench> <rounds> <milliseconds of each>

import type { Bench } from '../harness.ts';

const [name, rounds, round] = process.argv.slice(2);
const { bench } = (await import(`../${name}.bench.ts`)) as { bench: Bench };
console.log(JSON.stringify(await bench({ rounds: Number(rounds), round: Number(round) })));
