// Runs those examples of docs/client.md and docs/recipes that need a browser, as they stand, in Chromium.
import assert from 'node:assert/strict';
import { after, before, describe, it, type TestContext } from 'node:test';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { examplesOf, serveExamples } from '../helpers/docs.ts';
import type { TestServer } from '../helpers/server.ts';
import { bundled, mounts } from './helpers/bundled.ts';
import { launchChromium } from './helpers/chromium.ts';

const sources = ['client', 'recipes/react', 'recipes/vue'];
const examples = new Map(
  sources.flatMap((name) => [...examplesOf(new URL(`../../docs/${name}.md`, import.meta.url))]),
);
const pages = new Map<string, string>();
let server: TestServer;
let browser: Browser;
let context: BrowserContext;

before(async () => {
  server = await serveExamples((_, res, path) => {
    const page = pages.get(path);
    if (page === undefined) res.writeHead(404).end();
    else res.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page);
  });
  browser = await launchChromium();
  context = await browser.newContext();
});

after(async () => {
  await browser?.close();
  await server?.close();
});

async function openPage(t: TestContext, name: string, html: string): Promise<Page> {
  pages.set(`/${name}`, `<!doctype html>${html}`);
  const page = await context.newPage();
  t.after(() => page.close());
  page.on('pageerror', (error) => assert.fail(error));
  await page.goto(`${server.url}${name}`);
  return page;
}

describe('the examples of the docs, in a browser', () => {
  it('page shows the prices and the end', async (t) => {
    const page = await openPage(t, 'page', examples.get('page')!.code);
    await page.waitForFunction(() => document.querySelectorAll('li').length === 4);
    assert.deepEqual(await page.locator('li').allTextContents(), ['7.25', '7.5', '7.75', 'over']);
  });

  for (const name of ['react', 'vue'] as const) {
    it(`${name} shows the latest price`, async (t) => {
      const page = await openPage(t, name, await bundled(examples.get(name)!, server.url, mounts[name]));
      await page.waitForFunction(() => document.querySelector('output')?.textContent === '7.75');
    });
  }

  it('tabs reads in one tab', async (t) => {
    const page = await openPage(t, 'tabs', await bundled(examples.get('tabs')!, server.url, ''));
    const lines: string[] = [];
    page.on('console', (message) => lines.push(message.text()));
    await page.reload();
    while (lines.length < 3) await page.waitForEvent('console');
    assert.deepEqual(lines.slice(0, 3), [
      'leading tick {"price":7.25}',
      'leading tick {"price":7.5}',
      'leading tick {"price":7.75}',
    ]);
  });

  it('cookie opens what only the cookie opens', async (t) => {
    const page = await openPage(t, 'cookie', examples.get('cookie')!.code);
    await page.waitForFunction(() => document.querySelector('#state')?.textContent === 'welcome');
  });

  it('ticket takes a fresh one for each connection, and resumes', async (t) => {
    const page = await openPage(t, 'ticket', examples.get('ticket')!.code);
    await page.waitForFunction(() => document.querySelector('#state')?.textContent?.startsWith('…1 2 3 '));
  });
});
