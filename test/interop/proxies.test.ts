import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import { after, before, describe, it, type TestContext } from 'node:test';
import type { Browser } from 'playwright-core';
import { connect, type Gap } from '../../lib/client.ts';
import { Reader } from '../helpers/reader.ts';
import { launchChromium } from './helpers/chromium.ts';
import { type Origin, startOrigin } from './helpers/origin.ts';
import { programs, type RunningProxy, startProxy } from './helpers/proxy.ts';

let browser: Browser;
before(async () => {
  browser = await launchChromium();
});
after(() => browser?.close());

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** One request with a connection of its own. */
async function ask(url: string, options: http.RequestOptions = {}, body = ''): Promise<Answer> {
  const request = http.request(url, { agent: false, ...options });
  // An answer may come, and the connection end, before a large body has been taken.
  request.on('error', () => {});
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return { status: response.statusCode ?? 0, body: text };
}

async function publish({ url }: { readonly url: string }, data: string): Promise<void> {
  const { status, body } = await ask(`${url}/topics/news`, { method: 'POST' }, data);
  assert.equal(status, 200, body);
}

/** A stream through a proxy, once it is open. */
async function follow(t: TestContext, { url }: RunningProxy): Promise<Reader> {
  // As a browser asks: a proxy that would compress gets its chance to hold events back.
  const headers = { Host: 'events.example', 'Accept-Encoding': 'gzip, br' };
  const reader = await Reader.open(`${url}/events?topic=news`, { headers });
  t.after(() => reader.close());
  assert.equal(reader.status, 200);
  return reader.until(({ frames }) => frames.length > 0);
}

const beatsIn = ({ text }: Reader) => text.split('\n:\n').length - 1;

for (const name of Object.keys(programs) as (keyof typeof programs)[]) {
  describe(`behind ${name}`, () => {
    const start = async (t: TestContext, argv: readonly string[] = [], timeout?: string) => {
      const origin = await startOrigin(t, argv);
      const proxy = await startProxy(t, name, { upstream: origin.port, timeout });
      return { origin, proxy };
    };

    it('an event arrives at once, before there is another one to push it', { timeout: 60_000 }, async (t) => {
      const { origin, proxy } = await start(t, ['--heartbeat', 'off']);
      const reader = await follow(t, proxy);
      const delays: number[] = [];
      for (let i = 1; i <= 20; i++) {
        const written = performance.now();
        publish(origin, `event ${i}`);
        await reader.until(({ data }) => data.length === i);
        delays.push(performance.now() - written);
        assert.equal(reader.ended, false);
      }
      assert.deepEqual(
        reader.data,
        delays.map((_, i) => `event ${i + 1}`),
      );
      delays.sort((a, b) => a - b);
      const [fastest = Infinity, median, slowest] = [0, 10, 19].map((i) => delays[i]);
      t.diagnostic(
        `POST to event, ms: ${fastest.toFixed(1)} … ${median?.toFixed(1)} … ${slowest?.toFixed(1)}`,
      );
      // The fastest of twenty: a busy machine delays some, a proxy that waits delays all.
      assert.ok(fastest <= 50, `even the fastest took ${fastest} ms`);
    });

    it('events are published, up to the largest body that sluice takes', { timeout: 60_000 }, async (t) => {
      const { proxy } = await start(t);
      const reader = await follow(t, proxy);
      const large = 'x'.repeat(1024 * 1024);
      await publish(proxy, large);
      await reader.until(({ data }) => data.length === 1);
      assert.equal(reader.data[0], large);
      const { status } = await ask(`${proxy.url}/topics/news`, { method: 'POST' }, `${large}x`);
      assert.equal(status, 413);
    });

    it('only its own names are answered, and its own pages are known by them', {
      timeout: 60_000,
    }, async (t) => {
      const { proxy } = await start(t);
      const at = (headers: http.OutgoingHttpHeaders) => ask(`${proxy.url}/position`, { headers });
      const rebound = await at({ Host: 'evil.example' });
      assert.deepEqual([rebound.status, JSON.parse(rebound.body).error], [421, 'host-not-listed']);
      const host = `events.example:${proxy.port}`;
      assert.equal((await at({ Host: host })).status, 200);
      assert.equal((await at({ Host: host, Origin: `http://${host}` })).status, 200);
      const foreign = await at({ Host: host, Origin: 'http://events.example:1' });
      assert.deepEqual([foreign.status, JSON.parse(foreign.body).error], [403, 'origin-not-listed']);
    });

    it('a quiet stream outlives the time-outs by its heartbeat', { timeout: 60_000 }, async (t) => {
      const { origin, proxy } = await start(t, ['--heartbeat', '500ms'], '2s');
      const reader = await follow(t, proxy);
      // Three time-outs and more.
      await reader.until(() => beatsIn(reader) >= 14);
      await publish(origin, 'still here');
      await reader.until(({ data }) => data.length === 1);
    });

    it('without a heartbeat those time-outs end it', { timeout: 60_000 }, async (t) => {
      const { proxy } = await start(t, ['--heartbeat', 'off'], '2s');
      const reader = await follow(t, proxy);
      await reader.over;
      assert.deepEqual(reader.data, []);
    });

    it('a client’s leaving reaches sluice though nothing is being sent', { timeout: 60_000 }, async (t) => {
      const { origin, proxy } = await start(t, ['--heartbeat', 'off']);
      const delays: number[] = [];
      for (let i = 0; i < 3; i++) {
        const reader = await follow(t, proxy);
        const seen = origin.log.text.length;
        const left = performance.now();
        reader.close();
        while (!origin.log.text.slice(seen).includes('"stream-closed"'))
          await once(origin.child.stderr!, 'data');
        delays.push(performance.now() - left);
      }
      const fastest = Math.min(...delays);
      t.diagnostic(`leaving to stream-closed, ms: ${delays.map((delay) => delay.toFixed(1)).join(', ')}`);
      assert.match(origin.log.text, /"stream-closed","reason":"client-gone"/);
      assert.ok(fastest <= 1000, `even the fastest took ${fastest} ms`);
    });

    it('a kill -9 of sluice is no end: the reader comes back and is told of the gap', {
      timeout: 60_000,
    }, async (t) => {
      const { origin, proxy } = await start(t);
      const told: string[] = [];
      const read = readOn(t, proxy, told);
      await read.open;
      await publish(origin, 'before');
      await read.until(() => told.includes('before'));
      await origin.kill();
      const again: Origin = await startOrigin(t, [], origin.port);
      await read.until(() => told.length > 1);
      await publish(again, 'after');
      await read.until(() => told.includes('after'));
      assert.deepEqual(told, ['before', 'gap unknown-epoch', 'after']);
      t.diagnostic(`the end of the response was taken for: ${read.failures.join(', ')}`);
    });

    it('a browser comes back by itself after sluice was away', { timeout: 60_000 }, async (t) => {
      const { origin, proxy } = await start(t);
      const page = await browser.newPage();
      t.after(() => page.close());
      await page.route(`${proxy.url}/page`, (route) => route.fulfill({ contentType: 'text/html', body: '' }));
      await page.goto(`${proxy.url}/page`);
      await page.evaluate(() => {
        const events = new EventSource('/events?topic=news');
        events.onmessage = ({ data }) => document.body.append(`${data}\n`);
        for (const type of ['ready', 'refused', 'gap'])
          events.addEventListener(`sluice:${type}`, () => document.body.append(`${type}\n`));
      });
      const shows = (text: string) =>
        page.waitForFunction((text) => document.body.textContent?.includes(text), text);
      await shows('ready');
      await publish(origin, 'before');
      await shows('before');
      await origin.kill();
      await shows('refused\nrefused');
      const posted = await ask(`${proxy.url}/topics/news`, { method: 'POST' }, 'lost');
      assert.ok(posted.status >= 502, `a publisher hears of it: ${posted.status}`);
      const again = await startOrigin(t, [], origin.port);
      await shows('gap');
      await publish(again, 'after');
      await shows('after');
    });

    it('a kill of the proxy loses nothing', { timeout: 60_000 }, async (t) => {
      const { origin, proxy } = await start(t);
      const told: string[] = [];
      const read = readOn(t, proxy, told);
      await read.open;
      await publish(origin, 'before');
      await read.until(() => told.includes('before'));
      await proxy.kill();
      await publish(origin, 'meanwhile');
      await startProxy(t, name, { upstream: origin.port, port: proxy.port });
      await read.until(() => told.includes('meanwhile'));
      await publish(origin, 'after');
      await read.until(() => told.includes('after'));
      assert.deepEqual(told, ['before', 'meanwhile', 'after']);
    });
  });
}

interface ReadOn {
  /** Resolves when the first stream is open and ready. */
  readonly open: Promise<void>;
  /** Why it had to reconnect. */
  readonly failures: string[];
  until(holds: () => boolean): Promise<void>;
}

/** Reads as a client of ours does, for as long as the test lasts, and notes what it is told. */
function readOn(t: TestContext, { url }: RunningProxy, told: string[]): ReadOn {
  const stop = new AbortController();
  const wake = new EventTarget();
  const failures: string[] = [];
  const note = (text: string) => {
    told.push(text);
    wake.dispatchEvent(new Event('wake'));
  };
  let isReady = () => {};
  const open = new Promise<void>((resolve) => {
    isReady = resolve;
  });
  const events = connect(`${url}/events?topic=news`, {
    signal: stop.signal,
    controlEvents: true,
    backoffDelay: 50,
    maxBackoffDelay: 200,
    maxRetryDelay: 250,
    onGap: ({ reason }: Gap) => note(`gap ${reason}`),
    onState: ({ state, failure }) => {
      if (state === 'waiting' && failure) failures.push(failure.code + (failure.status ?? ''));
    },
  });
  const reading = (async () => {
    for await (const { event, data } of events) {
      if (event === 'sluice:ready') isReady();
      else if (event === 'sluice:end') note('end');
      else if (event !== 'sluice:gap' && event !== 'sluice:refused') note(data);
    }
    note('the loop ended');
  })();
  reading.catch((error) => {
    if (!stop.signal.aborted) note(`failed: ${error}`);
  });
  t.after(() => stop.abort());
  const until = async (holds: () => boolean) => {
    while (!holds()) {
      if (told.some((text) => /^(failed|the loop ended)/.test(text))) assert.fail(told.join(' · '));
      await once(wake, 'wake');
    }
  };
  return { open, failures, until };
}
