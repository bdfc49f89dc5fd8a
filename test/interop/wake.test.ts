// A page with the recipes for React and Vue, in Chromium, sleeps and wakes: it reconnects at once, and resumes.
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { after, before, describe, it, type TestContext } from 'node:test';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { serveEvents } from '../../lib/events.ts';
import { Hub } from '../../lib/hub.ts';
import { examplesOf } from '../helpers/docs.ts';
import { serve, type TestServer } from '../helpers/server.ts';
import { bundled, mounts } from './helpers/bundled.ts';
import { launchChromium, launchFreezable } from './helpers/chromium.ts';

/** Longer than any test waits. */
const RETRY = 600_000;

let browser: Browser;
before(async () => {
  browser = await launchChromium();
});
after(() => browser?.close());

interface Sleeper {
  readonly page: Page;
  readonly context: BrowserContext;
  readonly server: TestServer;
  /** The requests for a stream so far. */
  readonly streams: () => IncomingMessage[];
  readonly publish: (price: number) => void;
  readonly shows: (price: number) => Promise<unknown>;
}

/** A page that shows the latest price of a hub. */
async function opened(
  t: TestContext,
  name: 'react' | 'vue',
  newContext = () => browser.newContext(),
): Promise<Sleeper> {
  const [example] = examplesOf(new URL(`../../docs/recipes/${name}.md`, import.meta.url)).values();
  const html = `<!doctype html>${await bundled(example!, '', mounts[name])}`;
  const hub = new Hub({ retry: RETRY });
  const events = serveEvents(hub);
  const server = await serve(t, (req, res) => {
    if (req.url?.startsWith('/events')) return events(req, res);
    return res.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(html);
  });
  const context = await newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  page.on('pageerror', (error) => assert.fail(error));
  await page.goto(server.url);
  const publish = (price: number): void => {
    hub.publish('prices', { event: 'tick', json: { price } });
  };
  const shows = (price: number) =>
    page.waitForFunction((text) => document.querySelector('output')?.textContent === text, String(price), {
      // A hidden page draws no frames, at which it would look otherwise.
      polling: 100,
    });
  const streams = () => server.requests.filter(({ url }) => url?.startsWith('/events'));
  // In StrictMode the first stream is closed at once, so an event may come too early for the second one.
  const publishing = setInterval(() => publish(1), 100);
  await shows(1).finally(() => clearInterval(publishing));
  return { page, context, server, streams, publish, shows };
}

for (const name of ['react', 'vue'] as const) {
  describe(`a page with the recipe for ${name}`, () => {
    it('reconnects at once when it is online again, and misses nothing', async (t) => {
      const { context, server, publish, shows } = await opened(t, name);
      await context.setOffline(true);
      server.server.closeAllConnections();
      publish(2);
      await context.setOffline(false);
      await shows(2);
      publish(3);
      await shows(3);
    });

    it('reconnects at once when it is resumed after the browser has frozen it, and misses nothing', async (t) => {
      const { page, context, server, streams, publish, shows } = await opened(t, name, () =>
        launchFreezable(t),
      );
      const session = await context.newCDPSession(page);
      await page.evaluate(() => {
        const states: string[] = [];
        Object.assign(window, { states });
        for (const type of ['visibilitychange', 'freeze', 'resume'])
          document.addEventListener(type, () => states.push(`${type} ${document.visibilityState}`));
      });
      await session.send('Page.setWebLifecycleState', { state: 'frozen' });
      server.server.closeAllConnections();
      publish(2);
      const before = streams().length;
      await session.send('Page.setWebLifecycleState', { state: 'active' });
      await shows(2);
      assert.equal(streams().length, before + 1);
      assert.notEqual(streams().at(-1)?.headers['last-event-id'], undefined);
      assert.deepEqual(await page.evaluate('states'), [
        'visibilitychange hidden',
        'freeze hidden',
        'resume hidden',
      ]);
    });

    // What Chromium does not do by itself here is dispatched: a page that has a stream does not get into the cache,
    // and a page that was hidden for a test is not shown again.
    for (const [what, event] of [
      [
        'comes back from the cache of pages',
        "dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))",
      ],
    ] as const) {
      it(`leaves a stream that may be dead when it ${what}, and resumes`, async (t) => {
        const { page, streams, publish, shows } = await opened(t, name);
        const closed = new Promise((resolve) => streams().at(-1)?.socket.once('close', resolve));
        await page.evaluate(event);
        await closed;
        publish(2);
        await shows(2);
        assert.notEqual(streams().at(-1)?.headers['last-event-id'], undefined);
      });
    }

    it('hurries a wait when it becomes visible, and leaves an open stream alone', async (t) => {
      const { page, server, streams, publish, shows } = await opened(t, name);
      const show = () => page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
      const before = streams().length;
      await show();
      publish(2);
      await shows(2);
      assert.equal(streams().length, before);
      server.server.closeAllConnections();
      publish(3);
      // The page notices the cut on its own, and then waits.
      const deadline = page.waitForFunction(() => document.querySelector('output')?.textContent === '3');
      const showing = setInterval(() => void show(), 100);
      await deadline.finally(() => clearInterval(showing));
      assert.equal(streams().length, before + 1);
    });
  });
}
