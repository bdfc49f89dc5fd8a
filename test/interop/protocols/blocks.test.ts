// What the clients do with a block that has an id or a `retry` and no data, such as a control event that is sent as
// a comment: the table of docs/protocols.md.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Browser } from 'playwright-core';
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

describe('a block with an id and no data', () => {
  for (const [name, protocol] of Object.entries(protocols)) {
    const { program, method, path, routes } = protocol;
    const place = PLACES[name];
    it(`is no event for ${name}, and ${place === undefined ? 'not its place' : 'its place'}`, async (t) => {
      let opened = 0;
      // In the place of the program's streams.
      const served = await serving(t, program, {
        ...routes,
        [path]: (req, res) => {
          if (req.method !== method) return void served.program.emit('request', req, res);
          opened++;
          res.writeHead(200, { 'content-type': 'text/event-stream' });
          res.write(': sluice:ready {}\nretry: 100\nid: 1-2\n\n:\n: sluice:position {}\nid: 1-2\n\n');
          // Once the client has certainly read, because heartbeats follow.
          let beats = 0;
          const timer = setInterval(() => (++beats < 5 ? res.write(':\n') : res.socket?.destroy()), 20);
          res.on('close', () => clearInterval(timer));
        },
      });
      const client = await protocol.open(t, served.url, browser);
      await until(() => opened === 2);
      const [, second] = served.answers.filter((answer) => answer.path === path && answer.method === method);
      assert.equal(second!.lastEventId, place);
      assert.deepEqual([await client.received(), await client.gaps()], [[], 0]);
    });
  }
});
