// The real clients of other protocols read what the programs of docs/protocols.md send them.

import assert from 'node:assert/strict';
import { after, before, describe, it, type TestContext } from 'node:test';
import type { Browser } from 'playwright-core';
import { launchChromium } from '../helpers/chromium.ts';
import { type Client, type Protocol, protocols } from './clients.ts';
import { type Served, serving, until } from './programs.ts';

let browser: Browser;
before(async () => {
  browser = await launchChromium();
});
after(() => browser?.close());

interface Opened {
  readonly served: Served;
  readonly client: Client;
  /** The streams that were opened so far. */
  streams(): Served['answers'];
}

async function opened(t: TestContext, protocol: Protocol): Promise<Opened> {
  const served = await serving(t, protocol.program, protocol.routes);
  const client = await protocol.open(t, served.url, browser);
  const streams = () =>
    served.answers.filter(({ path, method }) => path === protocol.path && method === protocol.method);
  await until(() => streams().some(({ response }) => response.headersSent));
  return { served, client, streams };
}

/** Until a heartbeat was written to the latest stream, with its position where that has moved. */
async function beat({ streams }: Opened): Promise<void> {
  const { socket } = streams().at(-1)!.response;
  const before = socket!.bytesWritten;
  await until(() => socket!.bytesWritten > before);
}

const has = async ({ client }: Opened, count: number): Promise<void> =>
  until(async () => (await client.received()).length >= count);

/** A wait that is in vain ends. */
const limit = { timeout: 60_000 };

for (const [name, protocol] of Object.entries(protocols)) {
  describe(name, () => {
    it('receives each event once and in order, undisturbed by heartbeats and positions', limit, async (t) => {
      const one = await opened(t, protocol);
      const { served, client } = one;
      const texts = Array.from({ length: 6 }, (_, n) => `price:${n}`);
      for (const text of texts) {
        served.hub.publish('other', { data: 'moves the position' });
        await beat(one);
        served.publish(text);
        await beat(one);
      }
      await has(one, 6);
      assert.deepEqual(await client.received(), texts);
      assert.deepEqual([await client.gaps(), await client.isOver()], [0, false]);
      assert.deepEqual(client.complaints, []);
      assert.equal(one.streams().length, 1);
    });

    if (protocol.resumes) {
      it('gets after a cut what it has missed, once', limit, async (t) => {
        const one = await opened(t, protocol);
        const { served, client } = one;
        served.publish('price:1');
        const id = served.publish('price:2');
        await has(one, 2);
        await served.cut();
        served.publish('price:3');
        served.publish('price:4');
        await has(one, 4);
        served.publish('price:5');
        await has(one, 5);
        assert.deepEqual(await client.received(), ['price:1', 'price:2', 'price:3', 'price:4', 'price:5']);
        assert.equal(await client.gaps(), 0);
        assert.equal(one.streams()[1]!.lastEventId, id);
      });

      it(
        'gets what it has missed where it was cut off before its first event, again and again',
        limit,
        async (t) => {
          const one = await opened(t, protocol);
          const { served, client } = one;
          // A browser drops what it has not read of a broken response: until it has read the first event once.
          while (one.streams().at(-1)!.lastEventId === undefined) {
            const { length } = one.streams();
            await beat(one);
            await served.cut();
            await until(() => one.streams()[length]?.response.headersSent);
          }
          await beat(one);
          await served.cut();
          served.publish('price:1');
          await has(one, 1);
          assert.deepEqual(await client.received(), ['price:1']);
          assert.equal(await client.gaps(), 0);
        },
      );

      it('is told of what was lost while it was away', limit, async (t) => {
        const one = await opened(t, protocol);
        const { served, client } = one;
        served.publish('price:1');
        await has(one, 1);
        await served.cut();
        served.publish('price:2');
        served.hub.delete(protocol.topic);
        await until(async () => (await client.gaps()) === 1);
      });
    } else {
      it('gets after a cut what is published then', limit, async (t) => {
        const one = await opened(t, protocol);
        const { served, client } = one;
        served.publish('price:1');
        await has(one, 1);
        await served.cut();
        await until(() => one.streams()[1]?.response.headersSent);
        served.publish('price:2');
        await has(one, 2);
        assert.deepEqual(await client.received(), ['price:1', 'price:2']);
        assert.deepEqual(client.complaints, []);
      });
    }

    it('is told of what it can no longer get while it is connected', limit, async (t) => {
      const one = await opened(t, protocol);
      const { served, client } = one;
      served.publish('price:1');
      await has(one, 1);
      served.publish('price:2');
      served.hub.delete(protocol.topic);
      await until(async () => (await client.gaps()) === 1);
      assert.deepEqual(client.complaints, []);
    });

    it('knows the end, and has all that came before', limit, async (t) => {
      const one = await opened(t, protocol);
      const { served, client } = one;
      served.publish('price:1');
      served.publish('price:2');
      served.hub.end(protocol.topic);
      await until(() => client.isOver());
      assert.deepEqual(await client.received(), ['price:1', 'price:2']);
      assert.equal(await client.gaps(), 0);
      const later = one.streams().slice(1);
      assert.deepEqual(
        later.map(({ response }) => response.statusCode),
        protocol.endsAt204 ? [204] : [],
      );
    });
  });
}
