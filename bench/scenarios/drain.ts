// Stops a server with many streams over a window of time: do they end evenly, and do all reconnect to another
// server?

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { commandOf } from '../loads/commit.ts';
import { startCommand } from '../loads/lead.ts';
import { chosenNode } from '../loads/nodes.ts';
import { plain } from '../loads/plain.ts';
import { atMost, OURS, type Run, repeat, type Scenario } from './scenario.ts';

export const drain: Scenario = {
  name: 'drain',
  constant:
    '5,000 streams of `sluice serve`, a window of 10 s, and a second instance to which they reconnect after `retry`',
  shows:
    'the most streams that ended in one second, relative to an even share; seconds until it exited with 0',
  peers: ['sluice'],
  async run(settings, note) {
    const { connections: [streams = 5000] = [], isQuick, against } = settings;
    const window = isQuick ? 1000 : 10_000;
    const programOf = (peer: string) =>
      peer === OURS || against === undefined ? plain('lib/command/bin.ts') : commandOf(against);
    await repeat(atMost(3, settings), async (peer, repetition) => {
      const program = programOf(peer);
      if (program === undefined) throw new Error(`commit ${against?.name} has no command \`sluice\``);
      const instances = [await serve(program, window), await serve(program, window)] as const;
      try {
        const outcome = await leave(instances, streams, window);
        note({ scenario: 'drain', peer, parameters: { streams, window }, repetition, ...outcome });
      } finally {
        for (const { child } of instances) child.kill('SIGKILL');
      }
    });
  },
};

interface Instance {
  readonly child: ChildProcess;
  readonly url: string;
}

async function serve(program: string, window: number): Promise<Instance> {
  const argv = ['serve', '--port', '0', '--window', `${window}ms`, '--deadline', `${window + 5000}ms`];
  const { child, said } = await startCommand([chosenNode().path, program, ...argv]);
  return { child, url: said.split(' ').at(-1)! };
}

async function leave(
  [first, second]: readonly [Instance, Instance],
  streams: number,
  window: number,
): Promise<Pick<Run, 'figures' | 'invalid'>> {
  const ends: number[] = [];
  const returns: Promise<boolean>[] = [];
  let told = 0;
  let begin = Infinity;
  let early = 0;
  const onEnd = (retry: number): void => {
    const after = performance.now() - begin;
    if (after < 0) early++;
    else ends[Math.floor(after / 1000)] = (ends[Math.floor(after / 1000)] ?? 0) + 1;
    if (retry > 0) told++;
    returns.push(comeBack(second.url, retry));
  };
  for (let opened = 0; opened < streams; opened += 100) {
    const some = Math.min(100, streams - opened);
    await Promise.all(Array.from({ length: some }, () => open(first.url, onEnd)));
  }
  begin = performance.now();
  first.child.kill('SIGTERM');
  const [code] = await once(first.child, 'exit');
  const seconds = (performance.now() - begin) / 1000;
  while (returns.length < streams) await sleep(50);
  const back = (await Promise.all(returns)).filter(Boolean).length;
  const invalid = whatFailed({ early, code, told, back, streams });
  if (invalid !== undefined) return { figures: {}, invalid };
  const fullest = Math.max(...ends.map((count) => count ?? 0));
  return { figures: { evenness: fullest / ((streams * 1000) / window), seconds } };
}

function whatFailed(outcome: {
  early: number;
  code: number | null;
  told: number;
  back: number;
  streams: number;
}): string | undefined {
  const { early, code, told, back, streams } = outcome;
  if (early > 0) return `${early} streams ended before the server got its signal`;
  if (code !== 0) return `it exited with ${code}`;
  if (told < streams) return `${streams - told} of ${streams} streams got no \`retry\``;
  if (back < streams) return `${streams - back} of ${streams} streams did not reconnect`;
  return undefined;
}

/**
 * Opens a stream; resolves with its first bytes. `onEnd` gets the last `retry` that the stream named, or 0.
 */
function open(url: string, onEnd: (retry: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = http.get(`${url}/events?topic=drain`, { agent: false }, (response) => {
      let retry = 0;
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        for (const [, value] of text.matchAll(/^retry: (\d+)$/gm)) retry = Number(value);
        resolve();
      });
      response.on('close', () => onEnd(retry));
      response.on('error', () => {});
    });
    request.on('error', reject);
  });
}

async function comeBack(url: string, retry: number): Promise<boolean> {
  await sleep(retry);
  return open(url, () => {}).then(
    () => true,
    () => false,
  );
}
