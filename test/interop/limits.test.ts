// One browser more than there is room for. Needs Chromium: apt-get install chromium.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { createSseServer, type LogLine } from '../../lib/server.ts';
import { launchChromium } from './helpers/chromium.ts';

const ROOM = 3;
const RETRY = 500;

describe('one browser more than there is room for', () => {
  it('comes back no faster than it is told, gets a place that is freed, and leaves nothing behind', async () => {
    const refusals: number[] = [];
    const log = ({ event }: LogLine) => event === 'refused' && refusals.push(performance.now());
    const sse = createSseServer({ logger: log, limits: { maxConnections: ROOM, retryDelay: RETRY } });
    const url = await sse.listen(0);
    const browser = await launchChromium();
    // A context each: one browser would open no more than six connections to an origin.
    const open = async () => {
      const context = await browser.newContext();
      const page = await context.newPage();
      await page.goto(`${url}/healthz`);
      await page.evaluate(() => {
        const source = new EventSource('/events?topic=a');
        Object.assign(globalThis, { source });
      });
      return {
        context,
        state: () =>
          page.evaluate(() => (globalThis as unknown as { source: EventSource }).source.readyState),
      };
    };
    const until = async (holds: () => boolean | Promise<boolean>) => {
      while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 20));
    };

    const inside = [];
    for (let i = 0; i < ROOM; i++) inside.push(await open());
    await until(() => sse.streams.size === ROOM);
    const outside = await open();
    await until(() => refusals.length >= 5);
    assert.notEqual(await outside.state(), 2, 'EventSource gave up');
    for (const [index, at] of refusals.entries()) {
      if (index === 0) continue;
      const waited = at - (refusals[index - 1] as number);
      assert.ok(waited >= RETRY * 0.98, `it came back after ${waited} ms, and was told at least ${RETRY}`);
    }

    await inside[0]?.context.close();
    await until(async () => (await outside.state()) === 1);
    assert.equal(sse.streams.size, ROOM);
    for (const stream of sse.streams) stream.abort();
    await browser.close();
    await until(() => sse.streams.size === 0);
    const page = await (await fetch(`${url}/metrics`)).text();
    assert.match(page, /^sluice_connections 0$/m);
    const closed = once(sse.server, 'close');
    await sse.close({ deadline: 1000 });
    await closed;
  });
});
