// The examples in Chromium: what each of them is for is seen on its page, by one user or several.
// `npm ci --prefix test/interop` and a Chromium (`CHROMIUM=/path`, default /usr/bin/chromium), then
// `npx tsx --test test/interop/examples.test.ts`.

import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Browser, BrowserContext, Page, Route } from 'playwright-core';
import { hashFolder } from '../../examples/job-progress/hash-folder.ts';
import { Reader } from '../helpers/reader.ts';
import { isAccessible } from './helpers/accessible.ts';
import { launchChromium } from './helpers/chromium.ts';
import { type Example, type ExampleSetting, startExample } from './helpers/example.ts';

const PATIENCE = 60_000;

let browser: Browser;
before(async () => {
  browser = await launchChromium();
});
after(() => browser?.close());

/** What the pages of a test report: a violated policy, an uncaught error. */
const complaints = new WeakMap<Page, string[]>();

/** A page of a user of their own, or of one that has other pages. */
async function openPage(t: TestContext, url: string, user?: BrowserContext): Promise<Page> {
  const context = user ?? (await browser.newContext());
  if (user === undefined) t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const said: string[] = [];
  complaints.set(page, said);
  page.on('pageerror', (error) => said.push(error.message));
  page.on('console', (message) => {
    // That a server cannot be reached, or refuses a request, belongs to the stories.
    if (message.type() === 'error' && !/^Failed to load resource/.test(message.text()))
      said.push(message.text());
  });
  await page.goto(url);
  return page;
}

async function nodeWithSqlite(): Promise<string> {
  const ci = fileURLToPath(new URL('../../.ci/node', import.meta.url));
  return join((await promisify(execFile)(ci, ['24'])).stdout.trim(), 'node');
}

async function started(
  t: TestContext,
  name: string,
  argv: readonly string[],
  setting?: ExampleSetting,
): Promise<Example> {
  const example = await startExample(name, argv, setting);
  t.after(() => example.stop());
  return example;
}

function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-example-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function becomes(page: Page, selector: string, text: string | RegExp): Promise<void> {
  const pattern = text instanceof RegExp ? [text.source, text.flags] : undefined;
  await page.waitForFunction(
    ([one, exact, like]) => {
      const found = document.querySelector(one as string)?.textContent ?? '';
      return like === undefined ? found === exact : new RegExp(like[0]!, like[1]).test(found);
    },
    [selector, text instanceof RegExp ? undefined : text, pattern] as const,
  );
}

/** The page can be used, and has complained of nothing. */
async function isUsable(page: Page): Promise<void> {
  await isAccessible(page);
  assert.deepEqual(complaints.get(page), []);
}

/** Presses Tab until this element has the focus. */
async function tabTo(page: Page, selector: string): Promise<void> {
  for (let presses = 0; presses < 30; presses++) {
    await page.keyboard.press('Tab');
    if (await page.locator(selector).evaluate((one) => one === document.activeElement)) return;
  }
  assert.fail(`the keyboard does not reach ${selector}`);
}

describe('the examples', () => {
  const folder = fileURLToPath(new URL('../../examples/', import.meta.url));
  const names = readdirSync(folder).filter((name) => existsSync(join(folder, name, 'server.ts')));

  it('are listed with a picture, which is small', () => {
    const list = readFileSync(join(folder, 'README.md'), 'utf8');
    for (const name of names) {
      const picture = `../docs/images/${name}.png`;
      assert.ok(list.includes(`[${name}](${name}/README.md)`), name);
      assert.ok(list.includes(`](${picture})`), name);
      assert.ok(statSync(join(folder, picture)).size <= 60_000, name);
    }
    assert.equal(names.length, 5);
  });
});

describe('the log viewer', { timeout: 280_000 }, () => {
  const linesOf = (page: Page): Promise<string[]> =>
    page.locator('#lines li:visible .text').allTextContents();
  const numbered = (from: number, to: number): string[] =>
    Array.from({ length: to - from + 1 }, (_, i) => `line ${from + i}`);
  const append = (file: string, from: number, to: number): void =>
    appendFileSync(file, `${numbered(from, to).join('\n')}\n`);
  const has = (page: Page, lines: number): Promise<void> =>
    becomes(page, '#count', `${lines} of ${lines} lines`);

  it('shows what is written, only what the filter lets through, and nothing new while it is paused', async (t) => {
    const folder = folderFor(t);
    const file = join(folder, 'app.log');
    append(file, 1, 5);
    const { url } = await started(t, 'log-viewer', [file, '--folder', folder]);
    const page = await openPage(t, url);
    await has(page, 5);
    append(file, 6, 12);
    await has(page, 12);
    assert.deepEqual(await linesOf(page), numbered(1, 12));
    assert.equal(await page.title(), 'app.log');

    await tabTo(page, '#filter');
    await page.keyboard.type('LINE 1');
    await becomes(page, '#count', '4 of 12 lines');
    assert.deepEqual(await linesOf(page), ['line 1', 'line 10', 'line 11', 'line 12']);

    await tabTo(page, '#pause');
    await page.keyboard.press('Enter');
    append(file, 13, 14);
    await becomes(page, '#waiting', ', 2 more wait');
    assert.equal(await page.textContent('#pause'), 'Pause');
    assert.equal(await page.getAttribute('#pause', 'aria-pressed'), 'true');
    // A screen reader is told what the filter found, and not of each line.
    assert.deepEqual(await page.locator('main [role=status]').allTextContents(), ['4 of 12 lines']);
    assert.equal((await linesOf(page)).length, 4);
    await page.reload();
    await becomes(page, '#count', '6 of 14 lines');
    await page.fill('#filter', '');
    assert.deepEqual(await linesOf(page), numbered(1, 14));

    appendFileSync(file, '<img src=x onerror="document.title=1">\n');
    await has(page, 15);
    assert.equal(await page.title(), 'app.log');
    renameSync(file, `${file}.1`);
    writeFileSync(file, 'after the rotation\n');
    await has(page, 16);
    assert.equal((await linesOf(page)).at(-1), 'after the rotation');
    await isUsable(page);
  });

  it('goes on after a reload, and after a restart of a server with SQLite, without a hole or a duplicate', async (t) => {
    const folder = folderFor(t);
    const file = join(folder, 'app.log');
    const node = await nodeWithSqlite();
    append(file, 1, 600);
    const first = await startExample('log-viewer', [file, '--folder', folder], { node });
    await first.said.until('lines are kept in SQLite\n');
    const reader = await Reader.open(`${first.url}/events?from=earliest`);
    await reader.until('"line 600"');
    reader.close();
    const page = await openPage(t, first.url);
    await becomes(page, '#count', '500 of 500 lines');
    append(file, 601, 610);
    await becomes(page, '#count', '510 of 510 lines');
    await page.reload();
    await becomes(page, '#count', '510 of 510 lines');

    assert.equal(await first.stop(), 0);
    append(file, 611, 620);
    await started(t, 'log-viewer', [file, '--folder', folder], {
      node,
      port: Number(new URL(first.url).port),
    });
    append(file, 621, 630);
    await becomes(page, '#count', '530 of 530 lines');
    assert.deepEqual(await linesOf(page), numbered(101, 630));
    assert.equal(await page.locator('.note').count(), 0);
  });

  it('goes on after a rotation and a restart, and takes a new file with the same line in the same place for new', async (t) => {
    const folder = folderFor(t);
    const file = join(folder, 'app.log');
    const node = await nodeWithSqlite();
    const argv = [file, '--folder', folder];
    const publishedAfter = async (from: Example, last: string): Promise<string[]> => {
      const reader = await Reader.open(`${from.url}/events?from=earliest`);
      await reader.until(`"${last}"`);
      reader.close();
      return reader.data.map((data) => JSON.parse(data)).map(({ number, text }) => `${number} ${text}`);
    };
    writeFileSync(file, 'first\nsecond\nthird\n');
    const first = await started(t, 'log-viewer', argv, { node });
    await publishedAfter(first, 'third');
    renameSync(file, `${file}.1`);
    writeFileSync(file, 'fourth\nbeat\n');
    await publishedAfter(first, 'beat');
    assert.equal(await first.stop(), 0);
    appendFileSync(file, 'sixth\n');
    const second = await started(t, 'log-viewer', argv, { node });
    const six = ['1 first', '2 second', '3 third', '4 fourth', '5 beat', '6 sixth'];
    assert.deepEqual(await publishedAfter(second, 'sixth'), six);
    assert.equal(await second.stop(), 0);
    renameSync(file, `${file}.2`);
    writeFileSync(file, 'seventh\nbeat\nsixth\nlast\n');
    const third = await started(t, 'log-viewer', argv, { node });
    assert.deepEqual(await publishedAfter(third, 'last'), [
      ...six,
      '7 seventh',
      '8 beat',
      '9 sixth',
      '10 last',
    ]);
  });

  it('says that lines may be missing where its server has only memory and was started again', async (t) => {
    const folder = folderFor(t);
    const file = join(folder, 'app.log');
    append(file, 1, 3);
    // Without its database, a server of any Node knows as little as one that had it in memory.
    const first = await startExample('log-viewer', [file, '--folder', join(folder, 'one')]);
    const page = await openPage(t, first.url);
    await has(page, 3);
    assert.equal(await first.stop(), 0);
    append(file, 4, 5);
    const port = Number(new URL(first.url).port);
    await started(t, 'log-viewer', [file, '--folder', join(folder, 'two')], { port });
    await has(page, 5);
    assert.deepEqual(await linesOf(page), numbered(1, 5));
    await becomes(page, '.note', /^The server has begun anew/);
  });
});

describe('the notifications', { timeout: 280_000 }, () => {
  const textsOf = (page: Page): Promise<string[]> =>
    page
      .locator('#list li')
      .evaluateAll((items) =>
        items.map((item) => item.querySelector('p')!.childNodes[1]!.textContent!.slice(2, -1)),
      );
  const logIn = async (page: Page, user: string, password: string): Promise<void> => {
    await page.fill('#user', user);
    await page.fill('#password', password);
    await page.press('#password', 'Enter');
  };
  const send = async (page: Page, text: string): Promise<void> => {
    await page.fill('#text', text);
    await page.press('#text', 'Enter');
    await page.waitForFunction(() => document.querySelector<HTMLInputElement>('#text')!.value === '');
  };

  it('join the stored ones with the live ones, for each user their own', async (t) => {
    const folder = folderFor(t);
    const first = await startExample('notifications', ['--folder', folder]);
    const ada = await openPage(t, first.url);
    await logIn(ada, 'ada', 'hopper');
    await becomes(ada, '#answer', 'wrong name or password');
    await isUsable(ada);
    await logIn(ada, 'ada', 'lovelace');
    await becomes(ada, '#state', 'live');
    for (const text of ['one', 'two']) await send(ada, text);

    // Grace was not there.
    const grace = await openPage(t, first.url);
    await logIn(grace, 'grace', 'hopper');
    await becomes(grace, '#count', '2');
    // One is sent after another page was answered what is stored, and before it has a stream.
    const other = await openPage(t, 'about:blank', grace.context());
    const answered = async (route: Route): Promise<void> => {
      const response = await route.fetch();
      await send(ada, 'in between');
      await route.fulfill({ response });
    };
    await other.route(`${first.url}/notifications`, answered, { times: 1 });
    await other.goto(first.url);
    await becomes(other, '#state', 'live');
    await send(ada, 'at last');
    const texts = ['one', 'two', 'in between', 'at last'];
    for (const page of [grace, other]) {
      await becomes(page, '#count', '4');
      assert.deepEqual(await textsOf(page), texts);
    }
    await send(grace, 'to ada alone');
    await becomes(ada, '#count', '1');
    assert.deepEqual(await textsOf(ada), ['to ada alone']);
    assert.deepEqual(await textsOf(grace), texts);

    // Read on one page, with the keyboard, is read on all.
    await grace.locator('#list button').first().focus();
    await grace.keyboard.press('Enter');
    for (const page of [grace, other]) await becomes(page, '#count', '3');
    await grace.keyboard.press('Enter');
    for (const page of [grace, other]) await becomes(page, '#count', '2');
    assert.deepEqual(await textsOf(other), texts.slice(2));
    await isUsable(grace);

    assert.equal(await first.stop(), 0);
    const port = Number(new URL(first.url).port);
    await started(t, 'notifications', ['--folder', folder], { port });
    await becomes(ada, '#state', 'live');
    await send(ada, 'after the restart');
    for (const page of [grace, other]) {
      await becomes(page, '#count', '3');
      assert.deepEqual(await textsOf(page), [...texts.slice(2), 'after the restart']);
    }

    await grace.click('#leave');
    for (const page of [grace, other]) {
      await page.locator('#login').waitFor();
      assert.deepEqual(await textsOf(page), []);
    }
    assert.equal((await fetch(`${first.url}/events`)).status, 401);
    assert.equal((await fetch(`${first.url}/events?topic=user-ada`)).status, 401);
    assert.deepEqual(complaints.get(ada), []);
  });
});

describe('the ticker', { timeout: 280_000 }, () => {
  it('forgets a process that may have gone in what was lost', async (t) => {
    const { url } = await started(t, 'ticker', []);
    const page = await openPage(t, 'about:blank');
    const used = (seq: number, pid: number): string =>
      `id: e-${seq}\nevent: used\ndata: ${JSON.stringify({ pid, name: `p${pid}`, cpuPercent: 1, memoryBytes: 1 })}\n\n`;
    const gap = JSON.stringify({ reason: 'evicted', from: 'e-1', to: 'e-8' });
    const body = [
      'retry: 3600000\nid: e-0\nevent: sluice:ready\ndata: {}\n\n',
      used(1, 1),
      `id: e-8\nevent: sluice:gap\ndata: ${gap}\n\n`,
      used(9, 2),
    ];
    await page.route(`${url}/events?**`, (route) =>
      route.fulfill({ contentType: 'text/event-stream', body: body.join('') }),
    );
    await page.goto(url);
    await becomes(page, '#lost', '7');
    await becomes(page, '#count', '1');
  });

  const figure = async (page: Page, id: string): Promise<number> =>
    Number((await page.locator(`#${id}`).textContent())!.replaceAll(',', ''));

  it('gives who was away the newest of each process, and leaves out what came before', async (t) => {
    const { url } = await started(t, 'ticker', ['--interval', '200']);
    const page = await openPage(t, url);
    await page.locator('#rows tr').first().waitFor();
    await page.waitForFunction(() => Number(document.querySelector('#count')!.textContent) > 0);
    await tabTo(page, '#pause');
    await page.keyboard.press('Enter');
    await becomes(page, '#state', 'paused');
    const before = await figure(page, 'left-out');

    // Some samples later.
    const reader = await Reader.open(`${url}/events`);
    t.after(() => reader.close());
    const samples = () => reader.frames.filter(({ data }) => data.includes(`"pid":${process.pid},`)).length;
    await reader.until(() => samples() >= 5);
    await page.keyboard.press('Enter');
    await becomes(page, '#state', 'live');
    // Of this process alone, four.
    await page.waitForFunction(
      (least) => Number(document.querySelector('#left-out')!.textContent!.replaceAll(',', '')) >= least,
      before + 4,
    );
    assert.equal(await figure(page, 'lost'), 0);
    await isUsable(page);

    // The same without a page: of what was missed, at most one update of each process.
    const { id: from } = reader.frames[0]!;
    const missed = reader.frames.at(-1)!.id!;
    const late = await Reader.open(`${url}/events?conflate=1&lastEventId=${from}`);
    t.after(() => late.close());
    const seq = (id: string | undefined): number => Number(id!.split('-')[1]);
    await late.until(({ lastEventId }) => lastEventId !== '' && seq(lastEventId) > seq(missed));
    const old = late.frames.filter(({ event, id }) => event === 'used' && seq(id) <= seq(missed));
    const pids = old.map(({ data }) => JSON.parse(data).pid);
    assert.equal(new Set(pids).size, pids.length);
  });
});

describe('the job', { timeout: 280_000 }, () => {
  it('lists a file of any name so that `sha256sum --check` reads it, and a folder that cannot be read', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-example-'));
    // Node removes no path that is too long.
    t.after(() => execFileSync('rm', ['-rf', folder]));
    const names = ['plain', 'back\\slash', `line\n${'0'.repeat(64)}  forged`, 'return\r'];
    for (const name of names) writeFileSync(join(folder, name), name);
    // Below it, paths are longer than the system takes: also root cannot read that.
    const deep = 'd'.repeat(250);
    execFileSync('bash', ['-c', `for i in {1..18}; do mkdir ${deep} && cd ${deep} || exit 1; done`], {
      cwd: folder,
    });
    const { url } = await started(t, 'job-progress', [folder]);
    const { id, start } = await (await fetch(`${url}/jobs`, { method: 'POST' })).json();
    const reader = await Reader.open(`${url}/events/${id}?lastEventId=${start}`);
    await reader.until('event: done');
    const hashed = reader.frames.filter(({ event }) => event === 'file').map(({ data }) => JSON.parse(data));
    assert.deepEqual(
      hashed
        .filter(({ digest }) => digest)
        .map(({ path }) => path)
        .sort(),
      names.toSorted(),
    );
    assert.deepEqual(
      hashed.flatMap(({ error }) => error ?? []),
      ['ENAMETOOLONG'],
    );
    const result = await (await fetch(`${url}/jobs/${id}/result`)).text();
    const checked = execFileSync('sha256sum', ['--check', '--strict'], {
      input: result,
      cwd: folder,
      encoding: 'utf8',
    });
    assert.equal(checked.match(/: OK$/gm)?.length, names.length);
  });

  it('ends while it still lists the files, where it is cancelled', async (t) => {
    const said: object[] = [];
    const signal = AbortSignal.abort();
    const onProgress = (progress: object): unknown => said.push(progress);
    await assert.rejects(hashFolder(folderFor(t), { signal, onFile: () => {}, onProgress }), {
      name: 'AbortError',
    });
    assert.deepEqual(said, []);
  });

  const digestOf = (text: string): string => createHash('sha256').update(text).digest('hex');

  it('shows the same to who started it and to who comes late, and ends for all when it is cancelled', async (t) => {
    const folder = folderFor(t);
    for (let i = 0; i < 50; i++) writeFileSync(join(folder, `file ${i}`), `text ${i}`);
    const { url } = await started(t, 'job-progress', [folder]);
    const page = await openPage(t, url);
    await tabTo(page, '#begin');
    await page.keyboard.press('Enter');
    await becomes(page, '#state', 'done');
    await becomes(page, '#done', /^50 of 50 files, .* in .* s$/);

    const late = await openPage(t, page.url());
    await becomes(late, '#state', 'done');
    for (const one of [page, late]) {
      assert.equal(await one.locator('#files li').count(), 50);
      assert.equal(await one.locator('#progress').evaluate((bar: HTMLProgressElement) => bar.position), 1);
    }
    const result = await (await fetch(new URL((await late.getAttribute('#result', 'href'))!, url))).text();
    const lines = Array.from({ length: 50 }, (_, i) => `${digestOf(`text ${i}`)}  file ${i}`);
    assert.deepEqual(result.trimEnd().split('\n').sort(), lines.sort());

    // A file without an end, as far as this test is concerned.
    writeFileSync(join(folder, 'z'), '');
    truncateSync(join(folder, 'z'), 2 ** 39);
    await page.click('#begin');
    await page.waitForFunction(() => document.querySelectorAll('#files li').length === 50);
    await becomes(page, '#done', /^50 of 51 files, [\d.]+ (MB|GB) of 549.8 GB$/);
    const other = await openPage(t, page.url());
    await becomes(other, '#done', /^50 of 51 files/);
    await isUsable(page);
    await other.click('#cancel');
    for (const one of [page, other]) await becomes(one, '#state', 'cancelled');
    await becomes(page, '#jobs li:last-child', /cancelled$/);
    assert.equal(await page.locator('#result').isVisible(), false);
  });
});

describe('the chat', { timeout: 280_000 }, () => {
  const reply = (page: Page): Promise<string> =>
    page.locator('.reply p').last().textContent() as Promise<string>;
  const ask = async (page: Page, question: string): Promise<void> => {
    await page.fill('#text', question);
    await page.press('#text', 'Enter');
  };
  const counted = (text: string): void => {
    const numbers = text.trim().split(' ').map(Number);
    assert.deepEqual(
      numbers,
      numbers.map((_, i) => i + 1),
    );
  };
  const writes = (page: Page, words: number): Promise<unknown> =>
    page.waitForFunction((count) => {
      const text = [...document.querySelectorAll('.reply p')].at(-1)?.textContent ?? '';
      return text.split(' ').length > count;
    }, words);

  it('goes on where it was when it is reloaded in the middle, and stops for all who read it', async (t) => {
    const { url } = await started(t, 'llm-chat', ['--delay', '40']);
    const page = await openPage(t, url);
    await ask(page, 'Who are you?');
    await becomes(page, '.reply small', 'done');
    assert.match(await reply(page), /question 1 of this chat, and you have asked: “Who are you\?”/);
    await isUsable(page);

    await ask(page, 'Count to 9999');
    await writes(page, 20);
    const before = (await reply(page)).split(' ').length;
    await page.reload();
    await writes(page, before + 10);
    assert.equal(await page.locator('.question').count(), 2);
    const other = await openPage(t, page.url());
    await writes(other, before + 20);
    await other.click('#stop');
    for (const one of [page, other]) await becomes(one, '.reply:last-child small', 'stopped');
    assert.equal(await reply(page), await reply(other));
    counted(await reply(page));

    // The model gets the chat so far, and the other page sees the question.
    await ask(other, 'And now?');
    for (const one of [page, other]) await becomes(one, '.reply:last-child small', 'done');
    assert.match(await reply(page), /question 3 of this chat/);
    assert.equal(await reply(page), await reply(other));
    for (const one of [page, other]) assert.deepEqual(complaints.get(one), []);
  });
});
