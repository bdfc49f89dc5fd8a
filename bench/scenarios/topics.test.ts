// Checks that no history grows while the scenario `topics` measures.
//   npx tsx --test bench/scenarios/topics.test.ts

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { FrameRing } from '../../lib/frame-ring.ts';
import { WARM_MANY } from './topics.ts';

const TOPICS = 10_000;
/** The default of `maxHistoryBytes`. */
const MOST = 256 * 1024 * 1024;

it('the history of each of 10,000 topics keeps its memory for 26 turns after the warm-up', () => {
  const ring = new FrameRing({ maxFrames: 10_000 });
  const heldAt = [0];
  for (let turn = 1; turn <= WARM_MANY + 26; turn++) {
    const seq = turn * TOPICS;
    ring.push(seq, Date.now(), `id: 1795408776829004-${seq}\ndata: ${'x'.repeat(100)}\n\n`);
    heldAt.push(ring.heldBytes);
  }
  const grown = heldAt.flatMap((held, turn) => (turn > 0 && held !== heldAt[turn - 1] ? [turn] : []));
  assert.ok(grown.at(-1)! < WARM_MANY, `it grows in the turns ${grown.join(', ')}: change WARM_MANY`);
  assert.ok(ring.heldBytes * TOPICS < MOST, 'the topics have more than a hub may remember');
});
