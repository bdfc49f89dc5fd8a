// Makes the pictures of the examples, docs/images/*.png: runs each example, and photographs its page.
//
//   npm ci --prefix test/interop && npx tsx test/interop/pictures.ts [NAME…]

import { createHash } from 'node:crypto';
import { appendFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Page } from 'playwright-core';
import { launchChromium } from './helpers/chromium.ts';
import { startExample } from './helpers/example.ts';

interface Picture {
  /** The arguments of the server, which may use a folder of its own. */
  readonly argv: (folder: string) => readonly string[];
  /** What is done on the page before it is photographed. */
  readonly act: (page: Page, folder: string) => Promise<void>;
}

const lib = fileURLToPath(new URL('../../lib', import.meta.url));
const images = fileURLToPath(new URL('../../docs/images/', import.meta.url));

const PICTURES: Readonly<Record<string, Picture>> = {
  'log-viewer': {
    argv: (folder) => [join(folder, 'access.log'), '--folder', folder],
    act: async (page, folder) => {
      const paths = ['/', '/prices', '/events', '/login', '/metrics', '/topics/news'];
      const lines = Array.from({ length: 40 }, (_, i) => {
        const hash = createHash('sha256').update(`${i}`).digest();
        const time = new Date(Date.UTC(2026, 5, 1, 9, 0, 3 * i)).toISOString();
        const status = hash[0]! < 40 ? 500 : 200;
        return `${time} GET ${paths[hash[1]! % paths.length]} ${status} ${hash[2]! + 3} ms\n`;
      });
      appendFileSync(join(folder, 'access.log'), lines.join(''));
      await page.locator('#lines li').nth(39).waitFor();
      await page.fill('#filter', ' 500 ');
      await page.locator('#filter').blur();
    },
  },
  notifications: {
    argv: (folder) => ['--folder', folder],
    act: async (page) => {
      await page.fill('#user', 'ada');
      await page.fill('#password', 'lovelace');
      await page.press('#password', 'Enter');
      await page.locator('#to').selectOption('grace');
      for (const text of ['The tests are green', 'Lunch at noon?', 'There is a moth in relay 70']) {
        await page.fill('#text', text);
        await page.press('#text', 'Enter');
        await page.waitForFunction(() => document.querySelector<HTMLInputElement>('#text')!.value === '');
      }
      await page.click('#leave');
      await page.fill('#user', 'grace');
      await page.fill('#password', 'hopper');
      await page.press('#password', 'Enter');
      await page.locator('#list li').nth(2).waitFor();
      await page.locator('#list button').first().focus();
    },
  },
  ticker: {
    // Not what else runs on the machine.
    argv: () => ['--interval', '500', '--only', 'node,chromium'],
    act: async (page) => {
      await page.locator('#rows tr').nth(3).waitFor();
      await page.click('#pause');
      await page.waitForTimeout(10_000);
      await page.click('#pause');
      await page.waitForFunction(() => document.querySelector('#left-out')!.textContent !== '0');
    },
  },
  'job-progress': {
    argv: () => [lib],
    act: async (page) => {
      await page.click('#begin');
      await page.locator('#result').waitFor();
    },
  },
  'llm-chat': {
    argv: () => ['--delay', '10'],
    act: async (page) => {
      await page.fill('#text', 'What can I try?');
      await page.press('#text', 'Enter');
      await page.locator('.reply small', { hasText: 'done' }).waitFor();
      await page.fill('#text', 'Count to 500');
      await page.press('#text', 'Enter');
      await page.waitForFunction(() =>
        document.querySelector('.reply:last-child p')!.textContent!.includes(' 30 '),
      );
      await page.click('#stop');
      await page.locator('.reply small', { hasText: 'stopped' }).waitFor();
      await page.evaluate(() => scrollTo(0, 0));
    },
  },
};

const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(PICTURES);
mkdirSync(images, { recursive: true });
const browser = await launchChromium();
for (const name of names) {
  const picture = PICTURES[name];
  if (picture === undefined) throw new Error(`no example is called "${name}"`);
  const folder = mkdtempSync(join(tmpdir(), 'sluice-picture-'));
  const example = await startExample(name, picture.argv(folder));
  const page = await browser.newPage({ viewport: { width: 800, height: 520 }, colorScheme: 'light' });
  await page.goto(example.url);
  await picture.act(page, folder);
  await page.screenshot({ path: join(images, `${name}.png`), animations: 'disabled', caret: 'hide' });
  await page.close();
  await example.stop();
  rmSync(folder, { recursive: true });
}
await browser.close();
