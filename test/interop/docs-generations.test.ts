// Opens the page of docs/generations.md, on the server of that page, in Chromium.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { examplesOf } from '../helpers/docs.ts';
import { freePort } from '../helpers/free-port.ts';
import { kept } from './helpers/children.ts';
import { launchChromium } from './helpers/chromium.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const examples = examplesOf(new URL('../../docs/generations.md', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'sluice-docs-'));
let browser: Browser;
let port: number;
let url: string;
let child: ChildProcess;

/** Starts the server of the page, changed by `change`, and waits until it answers. */
async function startServer(change = (code: string): string => code): Promise<void> {
  const code = change(examples.get('server')!.code).replaceAll('8080', String(port));
  const file = join(folder, 'server.mts');
  writeFileSync(
    file,
    code.replace(/'sluice(?:\/([\w-]+))?'/g, (_, name = 'index') => `'${join(root, `lib/${name}.ts`)}'`),
  );
  writeFileSync(join(folder, 'page.html'), examples.get('page')!.code);
  const args = ['--import', import.meta.resolve('tsx'), file];
  child = kept(spawn(process.execPath, args, { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'] }));
  const answers = (): Promise<boolean> =>
    fetch(url).then(
      () => true,
      () => false,
    );
  while (!(await answers())) {
    assert.equal(child.exitCode, null);
    await sleep(20);
  }
}

async function stopServer(): Promise<void> {
  const closed = once(child, 'close');
  child.kill('SIGKILL');
  await closed;
}

before(async () => {
  port = await freePort();
  url = `http://127.0.0.1:${port}/`;
  await startServer();
  browser = await launchChromium();
});

after(async () => {
  await browser?.close();
  child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

async function openPage(t: TestContext, at: string): Promise<Page> {
  const page = await browser.newPage();
  t.after(() => page.close());
  page.on('pageerror', (error) => assert.fail(error));
  await page.goto(at);
  return page;
}

const stateOf = async (page: Page): Promise<(string | null)[]> =>
  Promise.all(['#answer', '#state'].map((id) => page.locator(id).textContent()));

async function reaches(page: Page, state: string): Promise<void> {
  await page.waitForFunction((text) => document.querySelector('#state')?.textContent === text, state);
}

describe('the page of docs/generations.md', () => {
  it('shows an answer, and the same one to who opens its link while it runs or afterwards', async (t) => {
    const page = await openPage(t, url);
    await page.waitForFunction(() => document.querySelector('#answer')?.textContent !== '');
    const other = await openPage(t, page.url());
    await reaches(page, 'done');
    await reaches(other, 'done');
    await page.reload();
    await reaches(page, 'done');
    const answer = ['You have asked: why ', 'done'];
    assert.deepEqual([await stateOf(page), await stateOf(other)], [answer, answer]);
  });

  it('says that an answer is lost where the server was restarted', async (t) => {
    const page = await openPage(t, url);
    await reaches(page, 'done');
    await stopServer();
    await startServer();
    await page.reload();
    await reaches(page, 'lost');
  });

  it('says that an answer is lost where it was deleted', async (t) => {
    await stopServer();
    await startServer((code) =>
      code.replace('Generations(hub)', 'Generations(hub, { ttl: 3000, lease: 300 })'),
    );
    const page = await openPage(t, url);
    await reaches(page, 'done');
    await sleep(4000);
    await page.reload();
    await reaches(page, 'lost');
  });

  it('shows the text of a model that yields no events', async (t) => {
    await stopServer();
    await startServer((code) => code.replace(/yield \{ event: 'token', data: (.+) \};/, 'yield $1;'));
    const page = await openPage(t, url);
    await reaches(page, 'done');
    assert.deepEqual(await stateOf(page), ['You have asked: why ', 'done']);
  });

  it('stops an answer for all who read it', async (t) => {
    // A question that is long enough for the button to come in time.
    const question = 'why+'.repeat(1000);
    const response = await fetch(`${url}answers?question=${question}`, { method: 'POST' });
    const { topic, start } = (await response.json()) as { topic: string; start: string };
    const link = `${url}#${topic}/${start}`;
    const [one, other] = [await openPage(t, link), await openPage(t, link)];
    await one.waitForFunction(() => document.querySelector('#answer')?.textContent !== '');
    await one.locator('#stop').click();
    await Promise.all([reaches(one, 'stopped'), reaches(other, 'stopped')]);
    assert.equal((await stateOf(one))[0], (await stateOf(other))[0]);
  });
});
