// Sends every event to clients that accept gzip: compressed once for all, for each of them, or not at all.

import { measureInTurns, type Play, warm } from './measure.ts';
import { kindOf, type Run, repeatAll, type Scenario } from './scenario.ts';
import { emptyStage, type Stage, settled, sideBySide } from './stage.ts';

/** One connection in this many is inflated and checked; of the others the bytes are counted. */
const CHECKED = 100;
const BYTES = 1024;

type Encoding = 'identity' | 'gzip';
type Variant = readonly [peer: string, encoding: Encoding];

export const gzip: Scenario = {
  name: 'gzip',
  constant:
    '1,000 connections, one event of 1 KB of JSON a turn; a turn every 10 ms, or every 100 ms where each connection ' +
    'has a gzip of its own, which cannot go faster. All servers are up and publish in turns. Memory: 5,000 ' +
    'connections, or 1,000 with a gzip each, in servers that do nothing else',
  shows: 'CPU time of the server and bytes on the wire per delivery, and memory per connection',
  isTogether: true,
  headlines: [{ where: { encoding: 'gzip' } }],
  peers: ['sluice', 'zlib'],
  async run({ peers, connections: [connections = 1000] = [], isQuick, ...settings }, note) {
    const variants: readonly Variant[] = peers.flatMap((peer): Variant[] =>
      kindOf(peer) === 'sluice'
        ? [
            [peer, 'identity'],
            [peer, 'gzip'],
          ]
        : [[peer, 'gzip']],
    );
    const duration = isQuick ? 300 : 3000;
    await repeatAll({ ...settings, peers, isQuick }, async (repetition) => {
      const memory: Run['figures'][] = [];
      for (const variant of variants)
        memory.push(await memoryOf(variant, crowdOf(variant, connections, isQuick), isQuick ? 100 : 500));
      const open = ([peer]: Variant) => emptyStage(peer, 'node');
      await sideBySide(variants, open, async (stages) => {
        const acts = variants.map((variant, i) => {
          const what = {
            order: { ...orderOf(variant), duration },
            connections,
            checked: looked(variant, connections),
          };
          const prepare = async (stage: Stage) => {
            await come(stage, variant, connections);
            await warm(stage, { ...what, order: { ...what.order, duration: duration / 2 } });
          };
          return { ...what, stage: stages[i]!, prepare };
        });
        const outcomes = await measureInTurns(acts);
        for (const [i, [peer, encoding]] of variants.entries()) {
          const { figures, invalid } = outcomes[i]!;
          const { deliveriesPerSecond: _, ...costs } = figures;
          const parameters = { connections, encoding };
          const all = invalid === undefined ? { ...costs, ...memory[i] } : {};
          note({ scenario: 'gzip', peer, parameters, repetition, figures: all, invalid });
        }
      });
    });
  },
};

function orderOf([peer]: Variant): Play['order'] {
  return { interval: peer === 'zlib' ? 100 : 10, bytes: BYTES, filling: 'json' };
}

/** How many connections are checked. */
function looked([, encoding]: Variant, connections: number): number {
  return encoding === 'gzip' ? Math.ceil(connections / CHECKED) : connections;
}

/** Opens connections, and publishes until they and those that were checked before have received an event. */
async function come(
  { server, reader }: Stage,
  variant: Variant,
  count: number,
  lookedBefore = 0,
): Promise<void> {
  const [, encoding] = variant;
  const reads = encoding === 'gzip' ? 'gunzip' : 'at-once';
  const headers = { 'Accept-Encoding': encoding };
  await reader.ask({ do: 'reset' });
  await reader.ask({ do: 'open', port: server.port, count, bytes: BYTES, headers, reads, sample: 0 });
  await server.run(orderOf(variant));
  await reader.ask({ do: 'await', events: lookedBefore + looked(variant, count) });
}

/** With only 1,000, the growth of V8's heap in steps would add a kilobyte to each. */
function crowdOf([peer]: Variant, connections: number, isQuick: boolean): number {
  return peer === 'zlib' || isQuick ? connections : 5 * connections;
}

async function memoryOf(variant: Variant, connections: number, settling: number): Promise<Run['figures']> {
  const stage = await emptyStage(variant[0], 'node');
  try {
    // The first connection loads zlib's code and tables, and traffic grows the heap; both are measured as a
    // base.
    await come(stage, variant, 1);
    const one = await settled(stage.server, settling);
    await come(stage, variant, connections - 1, 1);
    const all = await settled(stage.server, settling);
    return { rssPerConnection: (all - one) / (connections - 1) };
  } finally {
    await stage.stop();
  }
}
