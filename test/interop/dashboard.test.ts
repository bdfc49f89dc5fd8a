// The dashboard in a real browser, against the real server.
// `npm ci --prefix test/interop` and a Chromium (`CHROMIUM=/path`, default /usr/bin/chromium), then
// `npx tsx --test test/interop/dashboard.test.ts`.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Browser } from 'playwright-core';
import { SystemSampler } from '../../lib/command/system.ts';
import { Hub } from '../../lib/hub.ts';
import { MemoryLog, MemoryStore } from '../helpers/memory-log.ts';
import { launchChromium } from './helpers/chromium.ts';
import { becomes, exported, open, openBehind, rows, shows, started } from './helpers/dashboard-page.ts';

let browser: Browser;
before(async () => {
  browser = await launchChromium();
});
after(() => browser?.close());

describe('the dashboard', { timeout: 240_000 }, () => {
  it('shows live events as text, whatever they contain, within its Content-Security-Policy', async (t) => {
    const { sse, page, complaints } = await open(browser, t, {}, { hash: '#a,b' });
    await becomes(page, 'live');
    const hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>';
    sse.hub.publish('a', { data: hostile });
    sse.hub.publish('b', { data: 'two\nlines' });
    await shows(page, hostile);
    await shows(page, 'two');
    assert.equal(await page.title(), 'sluice');
    assert.equal(await page.locator('.row img, .row script').count(), 0);
    assert.equal(await page.locator('.row.ready').count(), 1);
    assert.equal(await page.locator('.row.again').count(), 0);
    assert.equal(await page.textContent('#last'), sse.hub.position);
    await page.locator('.row', { hasText: 'two lines' }).click();
    assert.equal(await page.textContent('#detail-data pre'), 'two\nlines');
    assert.deepEqual(complaints, []);
  });

  it('follows all topics, and a topic that is created later', async (t) => {
    const { sse, page } = await open(browser, t);
    await becomes(page, 'idle');
    for (let i = 1; i <= 3; i += 1) sse.hub.publish('late', { data: `event ${i}` });
    await page.locator('.topic', { hasText: 'late' }).waitFor();
    await becomes(page, 'live');
    sse.hub.publish('later', { data: 'first of its topic' });
    await shows(page, 'first of its topic');
    await page.uncheck('.topics li[data-topic=late] input');
    assert.equal(await page.isChecked('#all'), false);
    assert.equal(new URL(page.url()).hash, '#later');
  });

  it('shows events missed while disconnected in order, once, and marked as replayed', async (t) => {
    const { sse, page } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    sse.hub.publish('a', { data: 'before' });
    await shows(page, 'before');
    await page.click('#drop');
    await becomes(page, 'dropped');
    for (let i = 1; i <= 20; i += 1) sse.hub.publish('a', { data: `missed ${i}` });
    await page.click('#drop');
    await becomes(page, 'live');
    await shows(page, 'missed 20');
    sse.hub.publish('a', { data: 'at last' });
    await shows(page, 'at last');
    const missed = Array.from({ length: 20 }, (_, i) => `missed ${i + 1}`);
    const events = await rows(page, '.row:not(.ready, .note)');
    assert.deepEqual(events, ['before', ...missed, 'at last']);
    assert.deepEqual(await rows(page, '.row.again'), missed);
  });

  it('reconnects by itself after the drop', async (t) => {
    const { page } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    await page.click('#drop');
    await becomes(page, 'dropped');
    await becomes(page, 'live');
  });

  it('shows which events are lost', async (t) => {
    const { sse, page } = await open(browser, t, { hub: { history: { maxEvents: 5 } } }, { hash: '#a' });
    await becomes(page, 'live');
    sse.hub.publish('a', { data: 'before' });
    await shows(page, 'before');
    await page.click('#drop');
    await becomes(page, 'dropped');
    for (let i = 1; i <= 50; i += 1) sse.hub.publish('a', { data: `missed ${i}` });
    await page.click('#drop');
    await shows(page, 'missed 50');
    const [gap] = await rows(page, '.row.gap');
    assert.match(gap!, /^Events are missing: evicted – .* From \d+-1 to \d+-46 in a\.$/);
    assert.equal(await page.locator('.row.again').count(), 5);
  });

  it('replays all events on request', async (t) => {
    const { sse, page } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    sse.hub.publish('a', { data: 'one' });
    await shows(page, 'one');
    await page.click('#history');
    await page.locator('.row.again').waitFor();
    assert.deepEqual(await rows(page, '.row:not(.ready)'), ['one']);
  });

  it('shows a gap after the server was restarted', async (t) => {
    const { sse, url, page } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    sse.hub.publish('a', { data: 'before' });
    await shows(page, 'before');
    await sse.close({ deadline: 200 });
    await started(t, {}, Number(new URL(url).port));
    await page.locator('.row.gap', { hasText: 'unknown-epoch' }).waitFor();
    await becomes(page, 'live');
  });

  it('shows the end of a topic and does not reconnect', async (t) => {
    const { sse, page } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    sse.hub.publish('a', { data: 'last words' });
    await shows(page, 'last words');
    sse.hub.end('a');
    await page.locator('.row.end').waitFor();
    await becomes(page, 'ended');
  });

  it('shows events of every name, and those that are named as what browsers do', async (t) => {
    const { sse, page, complaints } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    for (const event of ['price', 'error', 'open', 'constructor'])
      sse.hub.publish('a', { event, data: `a ${event}` });
    await shows(page, 'a constructor');
    assert.deepEqual(await rows(page, '.row:not(.ready)'), ['a price', 'a error', 'a open', 'a constructor']);
    assert.equal(await page.getAttribute('#state', 'data-state'), 'live');
    assert.deepEqual(complaints, []);
  });

  it('publishes from its form, and shows what it published', async (t) => {
    const { sse, page, complaints } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    await page.fill('#topic', 'a');
    await page.fill('#event', 'greeting');
    await page.fill('#data', 'grüße\n€ 😀');
    await page.press('#data', 'Control+Enter');
    await page.waitForSelector('#answer[data-kind=good]');
    assert.equal(await page.textContent('#answer'), `published as ${sse.hub.position}`);
    await shows(page, 'grüße');
    assert.equal(await page.locator('.kind', { hasText: 'greeting' }).count(), 1);
    assert.deepEqual(complaints, []);
  });

  it('publishes and follows nothing under a name that no topic can have', async (t) => {
    const { sse, page } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    await page.fill('#topic', 'no topic');
    await page.click('#publish button');
    assert.match(
      await page.$eval('#topic', (field: HTMLInputElement) => field.validationMessage),
      /^A topic is 1 to 200 /,
    );
    await page.fill('#add-name', '');
    await page.press('#add-name', 'Enter');
    assert.match(
      await page.$eval('#add-name', (field: HTMLInputElement) => field.validationMessage),
      /^A topic is/,
    );
    await page.fill('#add-name', 'b');
    await page.press('#add-name', 'Enter');
    await page.locator('.topics li[data-topic=b]').waitFor();
    await page.fill('#topic', 'b');
    await page.click('#publish button');
    await page.waitForSelector('#answer[data-kind=good]');
    assert.deepEqual(
      sse.hub
        .topics()
        .map(({ topic }) => topic)
        .sort(),
      ['a', 'b'],
    );
  });

  it('asks for a token when publishing requires one', async (t) => {
    const { page } = await open(browser, t, { publishTokens: ['open-sesame'] }, { hash: '#a' });
    await becomes(page, 'live');
    assert.equal(await page.isVisible('#token'), false);
    await page.fill('#topic', 'a');
    await page.click('#publish button');
    await page.fill('#token', 'open-sesame');
    assert.match((await page.textContent('#answer'))!, /^401: /);
    await page.click('#publish button');
    await page.waitForSelector('#answer[data-kind=good]');
    await shows(page, 'hello');
  });

  it('shows why it was refused, and connects once it has a token', async (t) => {
    const { sse, page } = await open(browser, t, { subscribeTokens: ['let-me-in'] }, { hash: '#a' });
    await becomes(page, 'closed');
    await shows(page, 'refused with status 401');
    await page.fill('#token', 'let-me-in');
    await page.click('#drop');
    await becomes(page, 'live');
    sse.hub.publish('a', { data: 'for readers only' });
    await shows(page, 'for readers only');
    for (const stream of sse.streams) stream.end();
    await page.locator('.row.ready').nth(1).waitFor();
    await becomes(page, 'live');
    sse.hub.publish('a', { data: 'still there' });
    await shows(page, 'still there');
  });

  it('connects when a token was typed and Enter pressed, and publishes nothing by that', async (t) => {
    const { sse, page } = await open(browser, t, { subscribeTokens: ['let-me-in'] });
    sse.hub.publish('a', { data: 'for readers only' });
    await page.fill('#token', 'let-me-in');
    await page.press('#token', 'Enter');
    await shows(page, 'for readers only');
    await becomes(page, 'live');
    assert.deepEqual(
      sse.hub.topics().map(({ topic, events }) => [topic, events]),
      [['a', 1]],
    );
  });

  it('stays connected to the topics of its address with a token that was typed', async (t) => {
    const { sse, page } = await open(browser, t, { subscribeTokens: ['let-me-in'] }, { hash: '#a' });
    await becomes(page, 'closed');
    await page.fill('#token', 'let-me-in');
    await page.press('#token', 'Enter');
    await becomes(page, 'live');
    sse.hub.publish('a', { data: 'for readers only' });
    await shows(page, 'for readers only');
  });

  it('says why it has no list of topics', async (t) => {
    const { page } = await open(browser, t, { subscribeTokens: ['let-me-in'] });
    await page.locator('#more', { hasText: /^No list of topics: 401: ./ }).waitFor();
  });

  it('lists a topic that it follows beyond the first page of topics, and says of it only what it knows', async (t) => {
    const { sse, page } = await open(browser, t, {}, { hash: '#zz,a' });
    for (let i = 1000; i < 2100; i += 1) sse.hub.publish(`topic-${i}`, { data: 'x' });
    sse.hub.publish('zz', { data: 'beyond' });
    await shows(page, 'beyond');
    await page.locator('#more', { hasText: /^and more: follow them by name$/ }).waitFor();
    await page.locator('.topics li[data-topic=zz]', { hasText: 'not listed' }).waitFor();
  });

  it('says once why it is refused after it was connected, also where a proxy answers with a page', async (t) => {
    let isDown = false;
    let attempts = 0;
    const { sse, page } = await openBehind(browser, t, ({ url, method }, res) => {
      if (!isDown || !(url?.startsWith('/events?') || method === 'POST')) return false;
      if (method === 'GET') attempts += 1;
      res.writeHead(502, { 'content-type': 'text/html' }).end('<!doctype html><p>nobody is there');
      return true;
    });
    await becomes(page, 'live');
    isDown = true;
    for (const stream of sse.streams) stream.end();
    await shows(page, 'refused with status 502: Bad Gateway');
    await page.click('#publish button');
    await page.locator('#answer', { hasText: /^502: Bad Gateway$/ }).waitFor();
    while (attempts < 4) await new Promise((resolve) => setTimeout(resolve, 20));
    isDown = false;
    await becomes(page, 'live');
    assert.equal(await page.locator('.row.note', { hasText: 'refused with status' }).count(), 1);
  });

  it('connects although other requests are never answered, and sends each of them once at a time', async (t) => {
    const open: Record<string, number> = {};
    let most = 0;
    const { page } = await openBehind(browser, t, ({ url = '' }, res) => {
      if (!['/topics', '/position', '/metrics/recent'].includes(url)) return false;
      open[url] = (open[url] ?? 0) + 1;
      most = Math.max(most, ...Object.values(open));
      res.on('close', () => (open[url] = open[url]! - 1));
      return true;
    });
    await becomes(page, 'live');
    assert.equal(most, 1);
  });

  it('shows its chart once a server that was busy has answered', async (t) => {
    let refused = 0;
    const { page } = await openBehind(browser, t, ({ url }, res) => {
      if (url !== '/metrics/recent' || refused > 0) return false;
      refused += 1;
      res.writeHead(503).end();
      return true;
    });
    await page.locator('#recent-panel').waitFor();
  });

  it('follows as many topics as a server allows that allows few', async (t) => {
    const { sse, page } = await open(browser, t, { maxTopicsPerStream: 3 });
    for (const topic of ['a', 'b', 'c', 'd', 'e']) sse.hub.publish(topic, { data: `of ${topic}` });
    await shows(page, 'refused with status 400: A stream follows at most 3 topics, not 5.');
    await becomes(page, 'live');
    for (const topic of ['a', 'b', 'c']) await shows(page, `of ${topic}`);
    await page.locator('#more', { hasText: 'follows 3 topics at most' }).waitFor();
  });

  it('replays also what a log has from before it was restored from a backup', async (t) => {
    const store = new MemoryStore();
    const before = new Hub({ log: new MemoryLog(store) });
    for (const data of ['before the backup', 'lost with the disk']) await before.append('a', { data });
    await before.close();
    store.loseTail(1);
    const { sse, page } = await open(browser, t, { hub: { log: new MemoryLog(store) } }, { hash: '#a' });
    await shows(page, 'before the backup');
    sse.hub.publish('a', { data: 'after it' });
    await shows(page, 'after it');
    await page.click('#history');
    await page.locator('.row.again', { hasText: 'after it' }).waitFor();
    const shown = await rows(page, '.row:not(.ready, .gap)');
    assert.deepEqual(shown, ['before the backup', 'after it']);
  });

  it('waits where it is refused for now, and connects when there is room', async (t) => {
    const limits = { maxConnections: 1, retryDelay: 50 };
    const { sse, url, page } = await open(browser, t, { limits }, { hash: '' });
    await becomes(page, 'idle');
    const other = new AbortController();
    await fetch(`${url}/events?topic=a`, { signal: other.signal });
    sse.hub.publish('a', { data: 'meanwhile' });
    await page.locator('.kind', { hasText: 'sluice:refused' }).first().waitFor();
    other.abort();
    await shows(page, 'meanwhile');
    await becomes(page, 'live');
  });

  it('counts every event of a flood, and draws no more rows than are in view', async (t) => {
    const { sse, page } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    for (let i = 1; i <= 5000; i += 1) sse.hub.publish('a', { data: `event ${i}` });
    await shows(page, 'event 5000');
    assert.ok((await page.locator('.row').count()) <= 60);
    assert.equal(await page.textContent('#received'), '5,000');
    const wanted = Array.from({ length: 5000 }, (_, i) => `event ${i + 1}`);
    assert.deepEqual((await exported(page)).map(({ data }) => data).slice(1), wanted);
    await page.focus('#log');
    await page.press('#log', 'End');
    await page.locator('.row', { hasText: /event 1$/ }).waitFor();
    assert.match((await page.textContent('#detail-facts'))!, /following a, from/);
  });

  it('draws nothing while paused, then what arrived meanwhile', async (t) => {
    const { sse, page } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    sse.hub.publish('a', { data: 'one' });
    await shows(page, 'one');
    await page.click('#pause');
    for (let i = 1; i <= 700; i += 1) sse.hub.publish('a', { data: `paused ${i}` });
    await page.locator('#pause', { hasText: 'Resume (700 new)' }).waitFor();
    assert.deepEqual(await rows(page, '.row:not(.ready)'), ['one']);
    await page.click('#pause');
    await shows(page, 'paused 700');
    assert.equal((await exported(page)).length, 702);
  });

  it('filters while paused what was there then, and counts what has come since', async (t) => {
    const { sse, page } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    for (const data of ['one', 'other']) sse.hub.publish('a', { data });
    await shows(page, 'other');
    await page.click('#pause');
    for (const data of ['later one', 'later other', 'last one']) sse.hub.publish('a', { data });
    await page.locator('#pause', { hasText: 'Resume (3 new)' }).waitFor();
    await page.fill('#search', 'one');
    await page.locator('#pause', { hasText: 'Resume (2 new)' }).waitFor();
    assert.deepEqual(await rows(page, '.row:not(.ready)'), ['one']);
    await page.click('#pause');
    await shows(page, 'last one');
    assert.deepEqual(await rows(page, '.row:not(.ready)'), ['one', 'later one', 'last one']);
  });

  it('shows an event under its topic, whatever comment was published with it', async (t) => {
    const { sse, page } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    sse.hub.publish('a', { comment: 'topic b', data: 'of a' });
    await shows(page, 'of a');
    assert.equal(await page.locator('.row:not(.ready) .topic-name').textContent(), 'a');
  });

  it('draws samples of the topic system as tiles', async (t) => {
    const sampler = new SystemSampler();
    t.after(() => sampler.close());
    const { sse, page, complaints } = await open(browser, t, {}, { hash: '#system' });
    await becomes(page, 'live');
    for (let i = 0; i < 3; i += 1) {
      const sample = { ...sampler.sample(), time: new Date(Date.now() + i).toISOString() };
      sse.hub.publish('system', { data: JSON.stringify({ ...sample, server: { connections: 7 } }) });
    }
    await page.locator('.tile', { hasText: 'Connections' }).waitFor();
    const tiles = await page.$$eval('.tile', (found) => found.map((tile) => tile.textContent));
    assert.equal(tiles.length, 7);
    assert.ok(tiles.includes('Connections7'));
    assert.match(tiles.find((text) => text!.startsWith('Server memory'))!, /\d(MB|GB)$/);
    assert.equal(
      await page
        .locator('.tile .spark-line')
        .first()
        .getAttribute('d')
        .then((d) => d!.split('L').length),
      3,
    );
    await page.uncheck('.topics li[data-topic=system] input');
    await page.locator('#tiles').waitFor({ state: 'hidden' });
    assert.deepEqual(complaints, []);
  });

  it('shows events of the topic system that are not samples as plain events', async (t) => {
    const { sse, page, complaints } = await open(browser, t, {}, { hash: '#system' });
    await becomes(page, 'live');
    const [time, group] = [new Date().toISOString(), { cpuPercent: 'none', rssBytes: -1, p99Ms: {} }];
    const others = [
      null,
      [],
      'text',
      { time: { toString: 1, valueOf: 1 }, host: group, process: group, eventLoop: group },
      { time, host: 'text', process: group, eventLoop: group },
      { time: 'text', host: group, process: group, eventLoop: group },
    ].map((value) => JSON.stringify(value));
    for (const event of ['message', 'system'])
      for (const data of others) sse.hub.publish('system', { event, data });
    sse.hub.publish('system', {
      data: JSON.stringify({ time, host: group, process: group, eventLoop: group }),
    });
    await shows(page, 'Host CPU –');
    const shown = await rows(page, '.row:not(.ready)');
    assert.deepEqual(shown.slice(0, -1), [...others, ...others]);
    assert.deepEqual(await page.locator('.tile', { hasText: 'Host CPU' }).allTextContents(), ['Host CPU–']);
    assert.deepEqual(complaints, []);
  });

  it('fits a phone, in light and dark colours', async (t) => {
    for (const colorScheme of ['light', 'dark'] as const) {
      const context = { colorScheme, viewport: { width: 360, height: 740 }, isMobile: true };
      const { sse, page } = await open(browser, t, {}, { hash: '#a', context });
      await becomes(page, 'live');
      sse.hub.publish('a', { data: 'x'.repeat(150) });
      await shows(page, 'xxx');
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
      const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      assert.equal(ground, colorScheme === 'light' ? 'rgb(238, 243, 244)' : 'rgb(8, 18, 22)');
    }
  });
});
