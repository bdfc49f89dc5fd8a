// What the dashboard shows of what is published, and what can be done with it: in a real browser.
// `npm ci --prefix test/interop` and a Chromium (`CHROMIUM=/path`, default /usr/bin/chromium), then
// `npx tsx --test test/interop/dashboard-events.test.ts`.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type axe from 'axe-core';
import type { Browser, Page } from 'playwright-core';
import { ChaosProxy } from '../../lib/chaos-proxy.ts';
import type { RecentReport } from '../../lib/recent.ts';
import type { SseServer } from '../../lib/server.ts';
import { launchChromium } from './helpers/chromium.ts';
import { becomes, exported, open, rows, shows, started } from './helpers/dashboard-page.ts';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const root = fileURLToPath(new URL('../..', import.meta.url));

let browser: Browser;
before(async () => {
  browser = await launchChromium();
});
after(() => browser?.close());

/** A topic, event name and data for each event. */
const TRIPLES = ({ topic, event, data }: { topic: string; event: string; data: string }): string[] => [
  topic,
  event,
  data,
];

const lines = (count: number, from = 1): string =>
  Array.from({ length: count }, (_, i) => `event ${i + from}`).join('\n');

async function post(url: string, body: string, type = 'text/plain'): Promise<void> {
  const response = await fetch(url, { method: 'POST', body, headers: { 'content-type': type } });
  assert.equal(response.status, 200, await response.text());
}

const receives = (page: Page, count: number): Promise<unknown> =>
  page.locator('#received', { hasText: new RegExp(`^${count.toLocaleString('en')}$`) }).waitFor();

/** Shows three events of two topics, and selects the one in JSON. */
async function withJson(page: Page, sse: SseServer): Promise<void> {
  sse.hub.publish('prices', { event: 'tick', json: { symbol: 'SLC', deep: { list: [1, null] } } });
  sse.hub.publish('news', { data: 'first' });
  sse.hub.publish('news', { event: 'alert', data: 'second' });
  await shows(page, 'second');
  await page.locator('.row', { hasText: 'tick' }).click();
  await page.locator('#detail').waitFor();
}

const run = promisify(execFile);

/** Runs a command that was copied, with this program. */
function shell(command: string, token = ''): Promise<{ stdout: string }> {
  const options = { cwd: root, env: { ...process.env, TOKEN: token } };
  return run('sh', ['-c', command.replace('npx sluice', 'npx tsx lib/command/bin.ts')], options);
}

/** What a button copies. */
async function copyOf(page: Page, id: string): Promise<string> {
  await page.click(`#${id}`);
  await page.locator('#copied', { hasText: 'copied' }).waitFor();
  const text = await page.evaluate(() => navigator.clipboard.readText());
  assert.equal(await page.textContent('#command'), text);
  await page.evaluate(() => document.querySelector('#copied')!.replaceChildren());
  return text;
}

/** The buttons of the first minute, and what it says then. */
const STEPS: readonly (readonly [label: string, said: string])[] = [
  ['Publish 3 events', 'All 3 came, in order, each once'],
  ['Cut the connection', 'This page hears nothing now'],
  ['Publish 5 more', 'The server has 5 more events'],
  ['Reconnect', 'All 5 came, in order, each once'],
];

async function takeSteps(page: Page, steps: typeof STEPS): Promise<void> {
  for (const [label, said] of steps) {
    await page.locator('#tour-next:not([aria-disabled=true])', { hasText: label }).click();
    await page.locator('#tour-said', { hasText: said }).waitFor();
  }
}

describe('the dashboard', { timeout: 300_000 }, () => {
  it('shows everything that is published to new topics, from anywhere, under any name', async (t) => {
    const { url, page } = await open(browser, t);
    await becomes(page, 'idle');
    await page.fill('#topic', 'form');
    await page.click('#publish button');
    await post(`${url}/topics/curl?event=tick`, 'by curl');
    for (const from of [1, 5001]) await post(`${url}/topics/many`, lines(5000, from), 'application/x-ndjson');
    await receives(page, 10_002);
    const saved = (await exported(page)).filter(({ topic }) => topic !== '');
    const many = saved.filter(({ topic }) => topic === 'many').map(({ data }) => data);
    assert.deepEqual(many, lines(10_000).split('\n'));
    assert.deepEqual(
      saved
        .filter(({ topic }) => topic !== 'many')
        .map(TRIPLES)
        .sort(),
      [
        ['curl', 'tick', 'by curl'],
        ['form', 'message', 'hello'],
      ],
    );
    const names = await page.$$eval('.row .topic-name', (found) => found.map((name) => name.textContent));
    assert.ok(names.includes('many'));
  });

  it('shows the first events of a topic that begins while others go on, and no event twice', async (t) => {
    const { sse, page } = await open(browser, t);
    sse.hub.publish('old', { data: 'begin' });
    await shows(page, 'begin');
    const topics = ['old', 'new', 'old', 'newer', 'new', 'old'];
    for (const [i, topic] of topics.entries()) {
      sse.hub.publish(topic, { data: String(i + 1) });
      // What comes in turns of its own is delivered in parts.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await receives(page, 7);
    const saved = (await exported(page)).filter(({ topic }) => topic !== '');
    const ids = saved.map(({ id }) => id);
    assert.equal(new Set(ids).size, 7);
    assert.deepEqual(
      saved.map(({ topic, data }) => `${topic} ${data}`).sort(),
      ['old begin', ...topics.map((topic, i) => `${topic} ${i + 1}`)].sort(),
    );
    assert.equal(await page.locator('.row.gap').count(), 0);
  });

  it('shows topics that have ended before it could find them, however many there were before', async (t) => {
    const { sse, page } = await open(browser, t);
    await page.locator('#more', { hasText: 'There is no topic yet' }).waitFor();
    const jobs = (from: number, to: number): void => {
      for (let job = from; job <= to; job += 1) {
        for (const data of ['begun', 'done']) sse.hub.publish(`job-${job}`, { data: `${job} ${data}` });
        sse.hub.end(`job-${job}`);
      }
    };
    jobs(1, 50);
    await receives(page, 100);
    jobs(51, 120);
    await receives(page, 240);
    const saved = (await exported(page)).filter(({ topic }) => topic !== '');
    assert.equal(new Set(saved.map(({ id }) => id)).size, 240);
    assert.equal(await page.locator('.row.gap').count(), 0);
    assert.equal(await page.isChecked('#all'), true);
  });

  it('reports no gap of events that it has shown before', async (t) => {
    const { sse, page } = await open(browser, t, { hub: { history: { maxEvents: 4 } } });
    sse.hub.publish('old', { data: 'begin' });
    await shows(page, 'begin');
    // The next list of topics has the new one; by then, most events of the old one are forgotten.
    for (let i = 1; i <= 20; i += 1) {
      sse.hub.publish('old', { data: String(i) });
      if (i === 10) sse.hub.publish('new', { data: 'new' });
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await shows(page, 'new');
    await receives(page, 22);
    assert.equal(await page.locator('.row.gap').count(), 0);
  });

  it('shows what a restarted server has published before the page was back', async (t) => {
    const { sse, url, page } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    sse.hub.publish('a', { data: 'before' });
    await shows(page, 'before');
    await page.click('#drop');
    await becomes(page, 'dropped');
    await sse.close({ deadline: 200 });
    const other = await started(t, {}, Number(new URL(url).port));
    for (const data of ['one', 'two']) other.sse.hub.publish('a', { data });
    await page.click('#drop');
    await shows(page, 'two');
    other.sse.hub.publish('a', { data: 'three' });
    await shows(page, 'three');
    const events = await rows(page, '.row:not(.ready, .note, .gap)');
    assert.deepEqual(events, ['before', 'one', 'two', 'three']);
    assert.equal(await page.locator('.row.gap').count(), 1);
  });

  it('shows a topic that begins just after a restart of the server', async (t) => {
    const { sse, url, page } = await open(browser, t);
    sse.hub.publish('old', { data: 'before' });
    await shows(page, 'before');
    await sse.close({ deadline: 200 });
    const other = await started(t, {}, Number(new URL(url).port));
    for (const topic of ['old', 'new', 'old']) other.sse.hub.publish(topic, { data: `${topic} again` });
    await receives(page, 4);
    const saved = (await exported(page)).filter(({ topic, event }) => topic !== '' && event === 'message');
    assert.deepEqual(saved.map(({ data }) => data).sort(), ['before', 'new again', 'old again', 'old again']);
    assert.equal(await page.locator('.row.gap').count(), 1);
  });

  it('reconnects when the server is silent for longer than it has promised, and misses nothing', async (t) => {
    const { sse, url } = await started(t, { heartbeat: { interval: 200, missed: 1 } });
    await using proxy = await ChaosProxy.listen(url);
    const page = await browser.newPage();
    t.after(() => page.close());
    await page.goto(`${proxy.url}/#a`);
    await becomes(page, 'live');
    sse.hub.publish('a', { data: 'before' });
    await shows(page, 'before');
    proxy.blackHole();
    sse.hub.publish('a', { data: 'unheard' });
    await shows(page, 'the server was silent for longer than it had promised');
    proxy.pass();
    await shows(page, 'unheard');
    await becomes(page, 'live');
  });

  it('begins with the newest 1,000 events of the topics that there are', async (t) => {
    const { sse, url } = await started(t, {});
    for (let i = 1; i <= 1500; i += 1) sse.hub.publish('a', { data: `event ${i}` });
    const page = await browser.newPage();
    t.after(() => page.close());
    await page.goto(url);
    await receives(page, 1000);
    const saved = (await exported(page)).filter(({ topic }) => topic !== '');
    assert.deepEqual([saved[0]!.data, saved.at(-1)!.data], ['event 501', 'event 1500']);
    assert.ok(saved.every(({ replayed }) => replayed));
  });

  it('shows and saves only what the filter lets through, and never hides a gap', async (t) => {
    const { sse, page } = await open(
      browser,
      t,
      { hub: { history: { maxEvents: 2 } } },
      { hash: '#prices,news' },
    );
    await becomes(page, 'live');
    await withJson(page, sse);
    const data = async (): Promise<string[]> => rows(page, '.row:not(.ready)');
    await page.fill('#search', 'SECOND');
    await page.waitForFunction(() => document.querySelectorAll('.row').length === 2);
    assert.deepEqual(await data(), ['second']);
    await page.fill('#search', '');
    await page.selectOption('#of-topic', 'news');
    await page.waitForFunction(() => document.querySelectorAll('.row').length === 3);
    await page.selectOption('#of-type', 'alert');
    await page.waitForFunction(() => document.querySelectorAll('.row').length === 2);
    assert.deepEqual(await data(), ['second']);
    assert.deepEqual(
      (await exported(page)).map(({ event }) => event),
      ['sluice:ready', 'alert'],
    );
    await page.click('#drop');
    await becomes(page, 'dropped');
    for (let i = 1; i <= 9; i += 1) sse.hub.publish('news', { data: `missed ${i}` });
    await page.click('#drop');
    await page.locator('.row.gap').waitFor();
    // To a screen reader as well.
    assert.equal(await page.locator('#gap-said[role=status]').textContent(), 'Events are missing: evicted');
  });

  it('keeps an event open, as a tree, while new events come', async (t) => {
    const { sse, page, complaints } = await open(browser, t, {}, { hash: '#prices,news' });
    await becomes(page, 'live');
    await withJson(page, sse);
    await page.locator('#detail-data summary', { hasText: 'deep' }).click();
    await page.locator('#detail-data summary', { hasText: 'list' }).click();
    await page.locator('#detail-data .null').waitFor();
    const tree = await page.locator('#detail-data').innerText();
    assert.match(tree, /symbol: "SLC"/);
    assert.match(tree, /1: null/);
    for (let i = 1; i <= 500; i += 1) sse.hub.publish('news', { data: `more ${i}` });
    await shows(page, 'more 500');
    assert.equal(await page.locator('#detail-data').innerText(), tree);
    await page.click('#detail-frame summary');
    const raw = await page.textContent('#detail-raw');
    assert.match(raw!, /^: topic prices\nid: \d+-1\nevent: tick\ndata: \{"symbol":"SLC".*\}\n\n$/);
    assert.deepEqual(complaints, []);
  });

  it('shows JSON as it was written: long numbers, zeros at the end, and names that come twice', async (t) => {
    const { sse, page } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    const data =
      '{"id": 9007199254740993, "price": 1.10, "odd": "a \\" : b", "small": -2.5, "deep": {"x": 1e400}}';
    const twice = '{"a": 1, "b:": [2, 3], "a": 4}';
    for (const one of [data, twice, '17.0']) sse.hub.publish('a', { data: one });
    await shows(page, '17.0');
    await page.locator('.row', { hasText: 'price' }).click();
    await page.locator('#detail-data summary', { hasText: 'deep' }).click();
    await page.locator('#detail-data .leaf', { hasText: 'x: 1e400' }).waitFor();
    const leaves = await page.locator('#detail-data .leaf').allTextContents();
    assert.deepEqual(leaves, [
      'id: 9007199254740993',
      'price: 1.10',
      'odd: "a \\" : b"',
      'small: -2.5',
      'x: 1e400',
    ]);
    for (const text of [twice, '17.0']) {
      await page.locator('.row', { hasText: text }).click();
      await page.locator('#detail-data pre', { hasText: text }).waitFor();
    }
  });

  it('keeps the focus at what a button of a long list has added', async (t) => {
    const { sse, page } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    const list = Array.from({ length: 250 }, (_, i) => (i === 200 ? ['deep'] : i));
    sse.hub.publish('a', { json: list });
    await shows(page, '0,1,2,3');
    await page.locator('.row', { hasText: '0,1,2,3' }).click();
    await page.locator('#detail-data button', { hasText: '150 more' }).press('Enter');
    await page.locator('#detail-data .leaf:focus', { hasText: '100: 100' }).waitFor();
    await page.locator('#detail-data button', { hasText: '50 more' }).press('Enter');
    await page.locator('#detail-data summary:focus', { hasText: '200: [ 1 item ]' }).waitFor();
  });

  it('keeps what was scrolled to in its place while new events come', async (t) => {
    const { sse, page } = await open(browser, t, {}, { hash: '#a' });
    await becomes(page, 'live');
    for (let i = 1; i <= 300; i += 1) sse.hub.publish('a', { data: `event ${i}.` });
    await shows(page, 'event 300.');
    await page.evaluate(() => document.querySelector('#log')!.scrollTo(0, 2000));
    const row = page.locator('.row', { hasText: /event 220\.$/ });
    await row.waitFor();
    const before = await row.boundingBox();
    for (let i = 1; i <= 700; i += 1) sse.hub.publish('a', { data: `more ${i}` });
    await receives(page, 1000);
    await page.waitForFunction(() => document.querySelector('#log')!.scrollHeight > 1000 * 28);
    assert.deepEqual(await row.boundingBox(), before);
  });

  it('copies commands that publish the same event again, and that read on after it', async (t) => {
    const { sse, url, page } = await open(browser, t, {}, { hash: '#a' });
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin: url });
    await becomes(page, 'live');
    const data = `@it's "quoted"\\n\n\t$HOME \`id\` 100 % ü`;
    sse.hub.publish('a', { event: 'odd name', data });
    await shows(page, "it's");
    await page.locator('.row', { hasText: "it's" }).click();
    const copied = (id: string): Promise<string> => copyOf(page, id);
    await shell(await copied('publish-curl'));
    await shell(await copied('publish-cli'));
    await run(process.execPath, ['--input-type=module', '-e', await copied('publish-js')]);
    await receives(page, 4);
    const saved = (await exported(page)).filter(({ topic }) => topic === 'a');
    assert.deepEqual(saved.map(TRIPLES), Array(4).fill(['a', 'odd name', data]));
    const tail = (await copied('read-cli')).replace('sluice tail', 'sluice tail --json --max 3');
    const { stdout } = await shell(tail);
    const read = stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { id: string }).id);
    assert.deepEqual(
      read,
      saved.slice(1).map(({ id }) => id),
    );
    const [first] = saved;
    const after = `${url}/events?topic=a&lastEventId=${first!.id}`;
    assert.equal(await copied('read-curl'), `curl -N '${after}'`);
    assert.match(
      await copied('read-js'),
      new RegExp(`new EventSource\\("${after.replace(/[?]/g, '\\?')}"\\)`),
    );
  });

  it('copies commands that work with a token, and for a topic that looks like an option', async (t) => {
    const tokens = { publishTokens: ['let-me-in'], subscribeTokens: ['only-read'] };
    const { sse, url, page } = await open(browser, t, tokens, { hash: '#--ids' });
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin: url });
    await page.fill('#token', 'let-me-in');
    await page.press('#token', 'Enter');
    await becomes(page, 'live');
    for (const data of ['first', 'second']) sse.hub.publish('--ids', { data });
    await shows(page, 'second');
    await page.locator('.row', { hasText: 'first' }).click();
    const js = async (id: string): Promise<string> => (await copyOf(page, id)).replace('TOKEN', 'let-me-in');
    await shell(await copyOf(page, 'publish-curl'), 'let-me-in');
    await shell(await copyOf(page, 'publish-cli'), 'let-me-in');
    await run(process.execPath, ['--input-type=module', '-e', await js('publish-js')]);
    await receives(page, 5);
    const tail = (await copyOf(page, 'read-cli')).replace('sluice tail', 'sluice tail --max 1');
    assert.match((await shell(tail, 'let-me-in')).stdout, /second/);
    const next = 'return new Promise((done) => events.addEventListener("message", ({ data }) => done(data)))';
    assert.equal(await page.evaluate(`(async () => { ${await js('read-js')}\n${next} })()`), 'second');
  });

  it('can be used with the keyboard alone', async (t) => {
    const { sse, page } = await open(browser, t, {}, { hash: '#prices,news' });
    await becomes(page, 'live');
    await withJson(page, sse);
    await page.press('#log', 'Home');
    await page.locator('[aria-selected=true]', { hasText: 'second' }).waitFor();
    await page.press('#log', 'ArrowDown');
    await page.locator('[aria-selected=true]', { hasText: 'first' }).waitFor();
    const active = await page.getAttribute('#log', 'aria-activedescendant');
    assert.match((await page.textContent(`#${active}`))!, /first$/);
    assert.equal(await page.textContent('#detail-data'), 'first');
    await page.press('#close', 'Escape');
    await page.locator('#detail').waitFor({ state: 'hidden' });
    assert.equal(await page.evaluate(() => document.activeElement!.id), 'log');
  });

  it('leads through the first minute: publish, cut, publish, and see that nothing was lost', async (t) => {
    const { sse, page, complaints } = await open(browser, t);
    await takeSteps(page, STEPS);
    assert.equal(sse.hub.topics()[0]!.events, 8);
    await page.click('#tour-close');
    await page.reload();
    await becomes(page, 'live');
    assert.equal(await page.isVisible('#tour'), false);
    assert.deepEqual(complaints, []);
  });

  for (const way of ['drop', 'history']) {
    it(`says what came where the user connects with #${way} in the middle of the first minute`, async (t) => {
      const { page } = await open(browser, t);
      await takeSteps(page, STEPS.slice(0, 2));
      await takeSteps(page, STEPS.slice(2, 3));
      await page.click(`#${way}`);
      await receives(page, way === 'drop' ? 8 : 11);
      await takeSteps(page, STEPS.slice(3));
    });

    it(`says what came where the user has connected with #${way} before it publishes more`, async (t) => {
      const { page } = await open(browser, t);
      await takeSteps(page, STEPS.slice(0, 2));
      await page.click(`#${way}`);
      await becomes(page, 'live');
      await takeSteps(page, STEPS.slice(2));
    });
  }

  it('leads through the first minute also where its topic exists and is not followed', async (t) => {
    const { sse, page } = await open(browser, t, {}, { hash: '#prices' });
    sse.hub.publish('demo', { data: 'of somebody else' });
    await page.locator('.topics li[data-topic=demo]').waitFor();
    await takeSteps(page, STEPS);
    assert.equal(new URL(page.url()).hash, '#prices,demo');
  });

  it('leads through the first minute with the keyboard, and the focus stays', async (t) => {
    const { page } = await open(browser, t);
    await page.focus('#tour-next');
    for (const [, said] of STEPS) {
      await page.keyboard.press('Enter');
      await page.locator('#tour-said', { hasText: said }).waitFor();
      await page.locator(said === STEPS[3]![1] ? '#tour-close:focus' : '#tour-next:focus').waitFor();
    }
    await page.keyboard.press('Enter');
    await page.locator('#log:focus').waitFor();
  });

  it('draws live and replayed events, cuts and gaps on its timeline', async (t) => {
    const { sse, page } = await open(browser, t, { hub: { history: { maxEvents: 3 } } }, { hash: '#a' });
    await becomes(page, 'live');
    for (const data of ['one', 'two']) sse.hub.publish('a', { data });
    await shows(page, 'two');
    await page.click('#drop');
    await becomes(page, 'dropped');
    for (let i = 1; i <= 9; i += 1) sse.hub.publish('a', { data: `missed ${i}` });
    await page.click('#drop');
    await shows(page, 'missed 9');
    await page.waitForFunction(() => {
      const label = document.querySelector('#past')!.getAttribute('aria-label')!;
      return /2 live events, 3 replayed, cut for [1-9]\d* s, 1 gap$/.test(label);
    });
    for (const id of ['past-live', 'past-again', 'past-on', 'past-cut', 'past-gap'])
      await page.locator(`#${id}[d^=M]`).waitFor({ state: 'attached' });
  });

  it('charts what the server did before the page was opened, with axes, the pointer and the keys', async (t) => {
    const { sse, url } = await started(t, {});
    for (let i = 0; i < 200; i += 1) sse.hub.publish('a', { data: String(i) });
    const figures = async () => {
      const response = await fetch(`${url}/metrics/recent`);
      return ((await response.json()) as RecentReport).figures.published!;
    };
    while ((await figures()).length === 0) await new Promise((resolve) => setTimeout(resolve, 100));
    const page = await browser.newPage();
    t.after(() => page.close());
    await page.goto(url);
    await page.locator('#recent .spark-line[d^=M]').waitFor({ state: 'attached' });
    const [first] = await figures();
    const most = first!.toLocaleString('en');
    assert.match((await page.getAttribute('#recent', 'aria-label'))!, new RegExp(`at most ${most}/s$`));
    const labels = await page.$$eval('#recent text', (found) => found.map((text) => text.textContent));
    assert.deepEqual(labels.slice(-3), ['10 min ago', '5 min ago', 'now']);
    assert.equal(labels[0], '0/s');
    await page.press('#recent-at', 'Home');
    await page.locator('#recent-said', { hasText: 'no figure' }).waitFor();
    await page.press('#recent-at', 'End');
    await page.locator('#recent-said', { hasText: /\d\/s$/ }).waitFor();
    await page.hover('#recent-at', { position: { x: 60, y: 40 } });
    await page.locator('#recent-said', { hasText: 'no figure' }).waitFor();
    await page.selectOption('#recent-of', 'memoryBytes');
    await page.locator('#recent text', { hasText: 'MB' }).first().waitFor();
  });

  it('shows no chart where the server shows its figures to others only', async (t) => {
    const { page } = await open(browser, t, { metricsTokens: ['meter'] }, { hash: '#a' });
    await becomes(page, 'live');
    assert.equal(await page.isVisible('#recent-panel'), false);
    assert.equal(await page.isVisible('#token'), false);
    assert.equal(await page.isVisible('#past'), true);
  });

  for (const colorScheme of ['light', 'dark'] as const) {
    for (const width of [390, 1280]) {
      it(`has no fault that axe finds, at ${width} px in the ${colorScheme} theme`, async (t) => {
        const context = { colorScheme, viewport: { width, height: 900 }, reducedMotion: 'reduce' } as const;
        const options = { hub: { history: { maxEvents: 3 } }, publishTokens: ['let-me-in'] };
        const { sse, page } = await open(browser, t, options, { hash: '#prices,news', context });
        await becomes(page, 'live');
        await withJson(page, sse);
        await page.click('#drop');
        await becomes(page, 'dropped');
        for (let i = 1; i <= 9; i += 1) sse.hub.publish('news', { data: `missed ${i}` });
        await page.click('#drop');
        await page.locator('.row.gap').waitFor();
        await page.click('#detail-frame summary');
        await page.click('#publish-curl');
        await page.click('#publish button');
        await page.locator('#token-panel').waitFor();
        await page.locator('#recent .grid').first().waitFor({ state: 'attached' });
        await page.evaluate(axeSource);
        const found = await page.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run());
        assert.deepEqual(
          found.violations.map(({ id, help, nodes }) => [
            id,
            help,
            nodes.slice(0, 3).map(({ html }) => html),
          ]),
          [],
        );
        assert.ok(found.passes.some(({ id }) => id === 'color-contrast'));
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
      });
    }
  }
});
