// Takes the pictures of the dashboard in docs/images/: `npx tsx test/interop/dashboard-shots.ts`, after
// `npm ci --prefix test/interop`.
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { crc32, deflateSync } from 'node:zlib';
import type { Page } from 'playwright-core';
import { SystemSampler } from '../../lib/command/system.ts';
import { createSseServer } from '../../lib/server.ts';
import { launchChromium } from './helpers/chromium.ts';

const SIZES = [
  { name: 'dashboard.png', viewport: { width: 1280, height: 800 } },
  { name: 'dashboard-390.png', viewport: { width: 390, height: 844 } },
];
/** Seconds that the page is watched, so that its charts have something to show. */
const SECONDS = 45;

const folder = fileURLToPath(new URL('../../docs/images/', import.meta.url));
mkdirSync(folder, { recursive: true });
const sse = createSseServer({ hub: { history: { maxEvents: 150 } } });
const url = await sse.listen(0);
const sampler = new SystemSampler();
let price = 100;
const timers = [
  setInterval(() => sse.hub.publish('system', { event: 'system', json: sampler.sample() }), 1000),
  setInterval(() => sse.hub.publish('log', { data: `GET /orders/${Math.floor(price * 7)} 200` }), 450),
  setInterval(() => {
    price += Math.sin(Date.now() / 4000) * 2 + Math.random();
    sse.hub.publish('prices', {
      event: 'tick',
      json: { symbol: 'SLC', price: Number(price.toFixed(2)), lot: [1, 2] },
    });
  }, 90),
];
const browser = await launchChromium();
const context = await browser.newContext({ viewport: SIZES[0]!.viewport, colorScheme: 'light' });
await context.addInitScript(() => localStorage.setItem('sluice-tour', 'done'));
const page = await context.newPage();
await page.goto(url);
const wait = (seconds: number): Promise<void> => page.waitForTimeout(seconds * 1000);
await wait(SECONDS * 0.6);
await page.click('#drop');
await wait(SECONDS * 0.4);
await page.locator('.row', { hasText: 'tick' }).first().click();
await page.mouse.move(0, 0);
for (const { name, viewport } of SIZES) {
  await page.setViewportSize(viewport);
  await wait(1);
  const picture = await withPalette(await page.screenshot());
  writeFileSync(folder + name, picture);
  console.log(`${name}: ${picture.length} bytes`);
}
for (const timer of timers) clearInterval(timer);
sampler.close();
await browser.close();
await sse.close({ window: 0, deadline: 1000 });

/** The same picture with at most 256 colours, which takes half the bytes. */
async function withPalette(png: Buffer): Promise<Buffer> {
  const empty = await context.newPage();
  const { width, height, colors } = await pixelsOf(empty, png.toString('base64'));
  await empty.close();
  const counts = new Map<number, number>();
  for (const color of colors) counts.set(color, (counts.get(color) ?? 0) + 1);
  const palette = [...counts]
    .sort((a, b) => b[1] - a[1])
    .map(([color]) => color)
    .slice(0, 256);
  const places = new Map(palette.map((color, i) => [color, i]));
  const rows = Buffer.alloc(height * (width + 1));
  for (const [i, color] of colors.entries()) {
    const place = places.get(color) ?? nearest(palette, color);
    places.set(color, place);
    rows[i + Math.floor(i / width) + 1] = place;
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 3], 8); // Eight bits, of a palette.
  const table = Buffer.from(palette.flatMap((color) => channels(color)));
  const parts = [chunk('IHDR', head), chunk('PLTE', table), chunk('IDAT', deflateSync(rows, { level: 9 }))];
  return Buffer.concat([png.subarray(0, 8), ...parts, chunk('IEND', Buffer.alloc(0))]);
}

/** The browser decodes the picture: a number of 24 bits for each pixel. */
function pixelsOf(empty: Page, base64: string): Promise<{ width: number; height: number; colors: number[] }> {
  return empty.evaluate(async (data) => {
    const picture = await createImageBitmap(await (await fetch(`data:image/png;base64,${data}`)).blob());
    const { width, height } = picture;
    const canvas = new OffscreenCanvas(width, height).getContext('2d')!;
    canvas.drawImage(picture, 0, 0);
    const bytes = canvas.getImageData(0, 0, width, height).data;
    const colors = Array.from({ length: width * height }, (_, i) => {
      return bytes[4 * i]! * 65_536 + bytes[4 * i + 1]! * 256 + bytes[4 * i + 2]!;
    });
    return { width, height, colors };
  }, base64);
}

function nearest(palette: readonly number[], color: number): number {
  const wanted = channels(color);
  const distances = palette.map((other) =>
    channels(other).reduce((sum, value, i) => sum + (value - wanted[i]!) ** 2, 0),
  );
  return distances.indexOf(Math.min(...distances));
}

function channels(color: number): [number, number, number] {
  return [color >> 16, (color >> 8) & 255, color & 255];
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}
