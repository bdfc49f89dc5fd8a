// What the clients do with a block that has an id or a `retry` and no data, such as a control event that is sent as
// a comment: the table of docs/protocols.md.

import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { PassThrough } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import type { Browser } from 'playwright-core';
import type { Hub } from '../../../lib/hub.ts';
import { launchChromium } from '../helpers/chromium.ts';
import { protocols } from './clients.ts';
import { serving, until } from './programs.ts';

let browser: Browser;
before(async () => {
  browser = await launchChromium();
});
after(() => browser?.close());

/** What a client sends after a cut, where the last block had the id `1-2` and no data. */
const PLACES: Readonly<Record<string, string | undefined>> = {
  'graphql-sse': undefined,
  // By the package `eventsource`, in the place of a browser's.
  tRPC: undefined,
  MCP: undefined,
  'htmx 2': '1-2',
  'htmx 4': '1-2',
  Datastar: '1-2',
  Turbo: '1-2',
};

/** The only event of a topic as it is sent, without its id. */
async function wireOf(hub: Hub, topic: string): Promise<string> {
  const sink = new PassThrough({ encoding: 'utf8' });
  const subscription = hub.subscribe(topic, sink, { from: 'earliest', controls: 'comments' });
  await until(() => subscription.lag === 0 && sink.readableLength > 0);
  const blocks = String(sink.read(sink.readableLength)).split('\n\n');
  subscription.close();
  return `${blocks.at(-2)!.replace(/^id: .*\n/m, '')}\n\n`;
}

describe('a block with an id and no data', () => {
  for (const [name, protocol] of Object.entries(protocols)) {
    const { program, method, path, topic, routes } = protocol;
    const place = PLACES[name];
    it(`is no event for ${name}, and ${place === undefined ? 'not its place' : 'its place'}`, async (t) => {
      let first: ServerResponse | undefined;
      let read = '';
      // In the place of the program's streams.
      const served = await serving(t, program, {
        ...routes,
        [path]: (req, res) => {
          if (req.method !== method) return void served.program.emit('request', req, res);
          const blocks = ': sluice:ready {}\nretry: 100\nid: 1-2\n\n:\n: sluice:position {}\nid: 1-2\n\n';
          res.writeHead(200, { 'content-type': 'text/event-stream' });
          if (first === undefined) res.write(blocks + read);
          first ??= res;
        },
      });
      served.publish('read');
      read = await wireOf(served.hub, topic);
      const client = await protocol.open(t, served.url, browser);
      const streams = () =>
        served.answers.filter((answer) => answer.path === path && answer.method === method);
      await until(async () => (await client.received()).length === 1);
      first!.socket!.destroy();
      await until(() => streams().length === 2);
      assert.equal(streams()[1]!.lastEventId, place);
      assert.deepEqual([await client.received(), await client.gaps()], [['read'], 0]);
    });
  }
});
