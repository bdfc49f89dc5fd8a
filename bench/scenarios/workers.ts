// Serves a thousand connections with one process, and with two that share a port: what does a delivery cost, and
// how many are there?

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { commandOf } from '../loads/commit.ts';
import { childrenOf, type RunOrder, type Served, startCommand, startReader, usageOf } from '../loads/lead.ts';
import { chosenNode } from '../loads/nodes.ts';
import { plain } from '../loads/plain.ts';
import { now } from '../loads/texts.ts';
import { type Publisher, takeTurns } from '../loads/turns.ts';
import { complaint, costOf, type Measured, usedBetween, warm } from './measure.ts';
import { kindOf, repeat, type Scenario, type Settings } from './scenario.ts';
import { fill, type Stage } from './stage.ts';

/** How many processes serve. */
const WORKERS = 2;
/** Milliseconds between two turns: 50 a second. */
const PACE = 20;

export const workers: Scenario = {
  name: 'workers',
  constant:
    '`sluice serve`, alone or with `--workers 2`; one topic, 100 bytes of data; each turn is posted, and the next begins ' +
    'when it is answered, or 50 begin in a second. Servers, the reader and the publisher share both cores',
  shows:
    'CPU time of all processes of the server per delivery, and deliveries per second until the reader has the last',
  headlines: [{ where: { load: 'paced', batch: 1 } }],
  peers: ['server', 'workers'],
  missing: () => undefined,
  async run(settings, note) {
    const { connections: [connections = 1000] = [], batches = [1, 16], isQuick } = settings;
    const duration = isQuick ? 300 : 2000;
    await repeat(settings, async (peer, repetition) => {
      const server = await serve(peer, settings);
      const reader = await startReader();
      try {
        const stage = { server, reader, stop: server.stop };
        await fill(stage, { connections, sample: 0, isCalm: true });
        for (const batch of batches) {
          await warm(stage, { order: { batch, duration: duration / 2 }, connections });
          for (const [load, interval] of [['paced', PACE] as const, ['full', 0] as const]) {
            const outcome = await deliver(stage, { batch, interval, duration }, connections);
            const parameters = { connections, batch, load };
            note({ scenario: 'workers', peer, parameters, repetition, ...outcome });
          }
        }
      } finally {
        await Promise.all([reader.stop(), server.stop()]);
      }
    });
  },
};

/** Unlike where one process serves, those that get an event later may still be writing when the turns are over. */
async function deliver({ server, reader }: Stage, order: RunOrder, connections: number): Promise<Measured> {
  await reader.ask({ do: 'reset' });
  const before = usageOf(server.pids());
  const begin = now();
  const { turns } = await server.run(order);
  const deliveries = turns * (order.batch ?? 1) * connections;
  const answer = await reader.ask({ do: 'await', events: deliveries });
  const used = usedBetween(before, usageOf(server.pids()));
  const invalid = complaint(answer, deliveries);
  if (invalid !== undefined) return { figures: {}, invalid };
  const deliveriesPerSecond = deliveries / ((answer.last - begin) / 1e6);
  return { figures: { ...costOf(used, deliveries), deliveriesPerSecond }, invalid };
}

async function serve(peer: string, { against }: Settings): Promise<Served> {
  const program = kindOf(peer) === peer ? plain('lib/command/bin.ts') : against && commandOf(against);
  if (program === undefined) throw new Error(`commit ${against?.name} has no command \`sluice\``);
  const more = peer === 'workers' ? ['--workers', `${WORKERS}`] : [];
  const command = [chosenNode().path, program, 'serve', '--port', '0', '--deadline', '1s', ...more];
  const { child, pid, said } = await startCommand(command, '0,1');
  const url = said.split(' ').at(-1)!;
  const publisher = postingTo(url);
  return {
    name: peer,
    port: Number(new URL(url).port),
    pids: () => [pid, ...childrenOf(pid)],
    run: ({ topics = 1, batch = 1, interval = 0, duration = 0, bytes = 100, filling = 'x' }) =>
      takeTurns(publisher, { topics, batch, interval: interval * 1000, duration, bytes, filling }),
    beat: async () => {},
    gc: async () => undefined,
    profile: async () => {},
    stop: () => end(child),
  };
}

/** Posts each turn of a topic as a batch. */
function postingTo(url: string): Publisher {
  let answers: Promise<void>[] = [];
  return {
    publish: (topic, texts) => void answers.push(post(`${url}/topics/${topic}`, texts.join('\n'))),
    turnOver: async () => {
      await Promise.all(answers);
      answers = [];
    },
  };
}

async function post(url: string, body: string): Promise<void> {
  const headers = { 'Content-Type': 'application/x-ndjson' };
  const response = await fetch(url, { method: 'POST', headers, body });
  if (!response.ok) throw new Error(`publishing was answered with ${response.status}`);
  await response.arrayBuffer();
}

/** By SIGTERM, because workers outlive a process that is killed by a while. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  await once(child, 'exit');
}
