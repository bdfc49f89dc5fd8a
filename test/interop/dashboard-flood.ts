// Publishes 10,000 events a second for a minute while the dashboard shows them, and prints how long its frames took:
// `npx tsx test/interop/dashboard-flood.ts [SECONDS] [EVENTS A SECOND]`, after `npm ci --prefix test/interop`. Ends
// with 1 where an event is missing or a frame took over 100 ms. The server runs in a process of its own.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createSseServer } from '../../lib/server.ts';
import { launchChromium } from './helpers/chromium.ts';

const MOST_FRAME_TIME = 100;
const TICK = 20;
/** A text, because the compiler adds calls to named functions that the page does not have. */
const MEASURE = `
  globalThis.frames = [];
  globalThis.work = 0;
  new PerformanceObserver((list) => {
    for (const { scripts } of list.getEntries())
      work = Math.max(work, scripts.reduce((sum, { duration }) => sum + duration, 0));
  }).observe({ type: 'long-animation-frame' });
  let last = performance.now();
  requestAnimationFrame(function draw(now) {
    frames.push(now - last);
    last = now;
    requestAnimationFrame(draw);
  });
`;
const [seconds = 60, rate = 10_000] = process.argv.slice(2).map(Number);

if (process.send === undefined) await watch();
else await serve();

/** The child: publishes at an even pace from when it is told to. */
async function serve(): Promise<void> {
  const sse = createSseServer();
  process.send!(await sse.listen(0));
  await once(process, 'message');
  const total = seconds * rate;
  const began = performance.now();
  let published = 0;
  const timer = setInterval(() => {
    const due = Math.min(total, Math.floor(((performance.now() - began) / 1000) * rate));
    for (; published < due; published += 1)
      sse.hub.publish('prices', { event: 'tick', json: { symbol: 'SLC', number: published, price: 7.25 } });
    if (published < total) return;
    clearInterval(timer);
    process.send!('done');
  }, TICK);
  await once(process, 'disconnect');
  process.exit();
}

async function watch(): Promise<void> {
  const child = fork(fileURLToPath(import.meta.url), process.argv.slice(2));
  const [url] = (await once(child, 'message')) as [string];
  const browser = await launchChromium();
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  await page.goto(`${url}/#prices`);
  await page.waitForSelector('#state[data-state=live]');
  await page.evaluate(MEASURE);
  const done = once(child, 'message');
  child.send('begin');
  await done;
  const wanted = (seconds * rate).toLocaleString('en');
  const isComplete = await page
    .waitForFunction((text) => document.querySelector('#received')!.textContent === text, wanted)
    .then(
      () => true,
      () => false,
    );
  const frames = await page.evaluate(() => (globalThis as unknown as { frames: number[] }).frames);
  frames.sort((a, b) => a - b);
  const at = (part: number): string => `${frames[Math.floor((frames.length - 1) * part)]!.toFixed(1)} ms`;
  const gaps = await page.textContent('#past-gap-count');
  console.log(`received ${await page.textContent('#received')} of ${wanted}, gaps ${gaps}`);
  // What other processes take of the machine makes frames longer, but not this.
  const work = Math.round(Number(await page.evaluate('work')));
  console.log(`the scripts of the page took at most ${work} ms of a frame of over 50 ms`);
  console.log(`${frames.length} frames: median ${at(0.5)}, 99 % ${at(0.99)}, longest ${at(1)}`);
  await browser.close();
  child.disconnect();
  process.exitCode = isComplete && frames.at(-1)! <= MOST_FRAME_TIME ? 0 : 1;
}
