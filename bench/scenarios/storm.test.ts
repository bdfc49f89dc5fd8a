// Checks who returns from where in a storm, and that the floor in C sends what ours sends.
//   npx tsx --test bench/scenarios/storm.test.ts

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { describe, it } from 'node:test';
import { startReader } from '../loads/lead.ts';
import { servers, start } from '../loads/servers.ts';
import { complaint } from './measure.ts';
import { beyondConnecting, crowdOf } from './storm.ts';

const ids = ['1-0', '1-1', '1-2', '1-3'];

describe('a crowd that returns', () => {
  it('has missed all events where there is one place', () => {
    assert.deepEqual(crowdOf(10, ids, 1), { clients: 10, places: ['1-0'], missed: 40 });
  });

  it('is spread over all places, and has missed what came after each', () => {
    assert.deepEqual(crowdOf(4, ids, Infinity), { clients: 4, places: ids, missed: 4 + 3 + 2 + 1 });
    assert.equal(crowdOf(6, ids, Infinity).missed, 4 + 3 + 2 + 1 + 4 + 3);
    assert.deepEqual(crowdOf(2, ids, Infinity), { clients: 2, places: ['1-0', '1-2'], missed: 4 + 2 });
  });

  it('has missed on average half of the events, and half of one', () => {
    const thousand = Array.from({ length: 1000 }, (_, i) => `1-${i}`);
    assert.equal(crowdOf(10_000, thousand, Infinity).missed / 10_000, 500.5);
  });

  it('has missed nothing where nothing is remembered', () => {
    assert.deepEqual(crowdOf(10, [], 1), { clients: 10, places: [], missed: 0 });
  });
});

describe('the cost of catching up', () => {
  const connecting = { user: 600_000, system: 400_000 };

  it('is what a server used beyond connecting, for each missed event', () => {
    const storm = { user: 700_000, system: 900_000 };
    assert.equal(beyondConnecting(storm, connecting, 10_000_000), 60);
  });

  it('is not known where it may as well be noise, or where it is below zero', () => {
    for (const user of [0, 600_000, 700_000])
      assert.equal(beyondConnecting({ user, system: 400_000 }, connecting, 10_000_000), undefined);
  });
});

describe('a reader', () => {
  for (const kind of ['fastest', 'node'] as const) {
    it(`of the kind ${kind} returns from the places that it is given, a few at a time`, async () => {
      const [server, reader] = await Promise.all([start('sluice'), startReader(kind)]);
      try {
        const { port } = server;
        const before = await nextId(port, () => server.run({ topics: 2 }));
        await server.run({ topics: 2, batch: 10 });
        const missed = await idsAfter(port, before, 10);
        const crowd = crowdOf(25, [before, ...missed.slice(0, -1)], Infinity);
        const opening = { port, path: '/events?topic=t1', bytes: 100, count: 25, unanswered: 5 };
        const headers = { 'Last-Event-ID': '{place}' };
        await reader.ask({ do: 'open', ...opening, headers, places: crowd.places });
        const answer = await reader.ask({ do: 'await', events: crowd.missed, patience: 5000 });
        assert.equal(complaint(answer, crowd.missed), undefined);
      } finally {
        await Promise.all([server.stop(), reader.stop()]);
      }
    });
  }
});

describe('the floor of catching up', { skip: servers.prepared!.missing() ?? false }, () => {
  it('sends byte for byte what ours sends, to clients from any place, but for the ends of the chunks', async () => {
    const [ours, floor] = [await answersOf('sluice'), await answersOf('prepared')];
    const counts = ours.map((answer) => answer.match(/@\d+ /g)?.length);
    assert.deepEqual(counts, [1000, 700, undefined]);
    for (const answer of ours) assert.match(answer, /^event: sluice:ready$/m);
    assert.deepEqual(floor, ours);
  });
});

/** What a server answers to clients that missed all, some and none of 1,000 events. */
async function answersOf(peer: string): Promise<string[]> {
  const server = await start(peer);
  const { port } = server;
  try {
    const before = await nextId(port, () => server.run({ topics: 2 }));
    await server.run({ topics: 2, batch: 1000 });
    const missed = await idsAfter(port, before, 1000);
    const places = [before, missed[299]!, missed[999]!];
    return await Promise.all(places.map(async (id) => comparable(await answerTo(port, id))));
  } finally {
    await server.stop();
  }
}

async function idsAfter(port: number, after: string, count: number): Promise<readonly string[]> {
  const reader = await startReader('node');
  try {
    return (await reader.ask({ do: 'ids', port, path: '/events?topic=t1', count, after })).ids!;
  } finally {
    await reader.stop();
  }
}

function follow(port: number, headers = ''): Socket {
  const socket = connect({ port, host: '127.0.0.1' }).setEncoding('latin1');
  socket.write(`GET /events?topic=t1 HTTP/1.1\r\nHost: here\r\n${headers}\r\n`);
  return socket;
}

/** The id of the event that is published once a client follows. */
async function nextId(port: number, publish: () => Promise<unknown>): Promise<string> {
  const socket = follow(port);
  await once(socket, 'data');
  const [[text]] = await Promise.all([once(socket, 'data'), publish()]);
  socket.destroy();
  return /^id: (.*)$/m.exec(text)![1]!;
}

/** Everything that a client gets until nothing has come for two seconds. */
async function answerTo(port: number, id: string): Promise<string> {
  const socket = follow(port, `Last-Event-ID: ${id}\r\n`).setTimeout(2000);
  let answer = '';
  socket.on('data', (text: string) => {
    answer += text;
  });
  await once(socket, 'timeout');
  socket.destroy();
  return answer;
}

/** Our chunks end with the segments of the history, and a stream has no other CRLF. */
function withoutChunks(answer: string): string {
  const [head = '', ...body] = answer.split(/(?<=\r\n\r\n)/);
  return head + body.join('').replace(/(?:^|\r\n)[0-9a-f]+\r\n|\r\n$/g, '');
}

/** Without what differs between any two runs. */
function comparable(answer: string): string {
  return withoutChunks(answer)
    .replace(/^Date: .*$/m, 'Date')
    .replace(/^retry: \d{4}$/m, 'retry')
    .replace(/^id: \d{16}-/gm, 'id: ')
    .replace(/@(\d+) \d+ x+/g, (text, seq) => `@${seq} of ${text.length} bytes`);
}
