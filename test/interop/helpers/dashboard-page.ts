// The dashboard of a real server, in a real browser, and what it shows.
import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { createSseServer, type SseServer, type SseServerOptions } from '../../../lib/server.ts';

export interface Opened {
  readonly sse: SseServer;
  readonly url: string;
  readonly page: Page;
  /** What the browser reports: a violated policy, an uncaught error, a refused request. */
  readonly complaints: string[];
}

export async function started(
  t: TestContext,
  options: SseServerOptions,
  port = 0,
): Promise<{ sse: SseServer; url: string }> {
  const { hub, ...rest } = options;
  const sse = createSseServer({ hub: { retry: 100, ...hub }, ...rest });
  const url = await sse.listen(port);
  t.after(() => sse.close({ window: 0, deadline: 200 }));
  return { sse, url };
}

export async function open(
  browser: Browser,
  t: TestContext,
  options: SseServerOptions = {},
  { hash = '', context = {} }: { hash?: string; context?: BrowserContextOptions } = {},
): Promise<Opened> {
  const { sse, url } = await started(t, options);
  // High enough for the rows of a test.
  const page = await browser.newPage({ viewport: { width: 1280, height: 1700 }, ...context });
  page.setDefaultTimeout(20_000);
  t.after(() => page.close());
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  await page.goto(`${url}/${hash}`);
  return { sse, url, page, complaints };
}

/** A proxy in front of a server, which answers some requests itself: those for which `answer` returns true. */
export async function behindProxy(
  t: TestContext,
  url: string,
  answer: (req: IncomingMessage, res: ServerResponse) => boolean,
): Promise<string> {
  const proxy = createServer((req, res) => {
    if (answer(req, res)) return;
    const { method, headers } = req;
    const passed = request(`${url}${req.url}`, { method, headers }, (answered) => {
      res.writeHead(answered.statusCode!, answered.headers);
      answered.pipe(res);
    });
    passed.on('error', () => res.destroy());
    res.on('close', () => passed.destroy());
    req.pipe(passed);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    proxy.closeAllConnections();
    proxy.close();
  });
  return `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
}

/** Opens the page of a server behind such a proxy. */
export async function openBehind(
  browser: Browser,
  t: TestContext,
  answer: (req: IncomingMessage, res: ServerResponse) => boolean,
  hash = '#a',
): Promise<Omit<Opened, 'complaints'>> {
  const { sse, url } = await started(t, {});
  const front = await behindProxy(t, url, answer);
  const page = await browser.newPage({ viewport: { width: 1280, height: 1700 } });
  page.setDefaultTimeout(20_000);
  t.after(() => page.close());
  await page.goto(`${front}/${hash}`);
  return { sse, url: front, page };
}

export const becomes = (page: Page, state: string): Promise<unknown> =>
  page.waitForSelector(`#state[data-state=${state}]`);
export const shows = (page: Page, text: string): Promise<unknown> =>
  page.locator('.row:not(.ready) .data', { hasText: text }).first().waitFor();

/** The events that the page saves, oldest first. */
export async function exported(page: Page): Promise<Saved[]> {
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#export')]);
  const text = await readFile(await download.path(), 'utf8');
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Saved);
}

export interface Saved {
  readonly time: string;
  readonly topic: string;
  readonly id: string;
  readonly event: string;
  readonly data: string;
  readonly replayed: boolean;
}

/** What the rows say, oldest first. */
export const rows = (page: Page, selector = '.row'): Promise<string[]> =>
  page.$$eval(selector, (found) => found.map((row) => row.querySelector('.data')!.textContent!).reverse());
