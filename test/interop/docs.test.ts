// Runs those examples of docs/client.md that need a browser, as they stand, in Chromium.
import assert from 'node:assert/strict';
import { after, before, describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { examplesOf, runnable, serveExamples } from '../helpers/docs.ts';
import type { TestServer } from '../helpers/server.ts';
import { launchChromium } from './helpers/chromium.ts';

const examples = examplesOf(new URL('../../docs/client.md', import.meta.url));
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

/** The example and what a page does with it, bundled into a script element. */
async function bundled(name: string, use: string): Promise<string> {
  const { language } = examples.get(name)!;
  const built = await build({
    stdin: {
      contents: `${runnable(examples.get(name)!, server.url)}\n${use}`,
      loader: language === 'tsx' ? 'tsx' : 'ts',
      resolveDir: fileURLToPath(new URL('.', import.meta.url)),
    },
    bundle: true,
    format: 'esm',
    jsx: 'automatic',
    write: false,
    define: { 'process.env.NODE_ENV': '"development"' },
  });
  return `<div id="app"></div><script type="module">${built.outputFiles[0]!.text.replaceAll('</script', '<\\/script')}</script>`;
}

describe('the examples of docs/client.md, in a browser', () => {
  it('page shows the prices and the end', async (t) => {
    const page = await openPage(t, 'page', examples.get('page')!.code);
    await page.waitForFunction(() => document.querySelectorAll('li').length === 4);
    assert.deepEqual(await page.locator('li').allTextContents(), ['7.25', '7.5', '7.75', 'over']);
  });

  it('react shows the latest price', async (t) => {
    const use = `import { createRoot } from 'react-dom/client';
      import { StrictMode } from 'react';
      createRoot(document.querySelector('#app')!).render(<StrictMode><Price /></StrictMode>);`;
    const page = await openPage(t, 'react', await bundled('react', use));
    await page.waitForFunction(() => document.querySelector('output')?.textContent === '7.75');
  });

  it('vue shows the latest price', async (t) => {
    const use = `import { createApp } from 'vue'; createApp(Price).mount('#app');`;
    const page = await openPage(t, 'vue', await bundled('vue', use));
    await page.waitForFunction(() => document.querySelector('output')?.textContent === '7.75');
  });

  it('tabs reads in one tab', async (t) => {
    const page = await openPage(t, 'tabs', await bundled('tabs', ''));
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
