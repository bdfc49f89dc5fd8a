// Opens the pages of docs/start.md and docs/guides in Chromium, on their own servers, behind nginx where they say so.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { examplesOf, here, typeErrorsIn } from '../helpers/docs.ts';
import { freePort } from '../helpers/free-port.ts';
import { serveProgram, temporaryFolder } from '../helpers/programs.ts';
import { Reader, Reading } from '../helpers/reader.ts';
import { makeProject } from './frameworks/host.ts';
import { launchChromium } from './helpers/chromium.ts';
import { startOrigin } from './helpers/origin.ts';
import { runProxy, substitute } from './helpers/proxy.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
let browser: Browser;

before(async () => {
  browser = await launchChromium();
});

after(() => browser?.close());

const codeOf = (page: string, name: string): string =>
  examplesOf(new URL(`../../docs/${page}`, import.meta.url)).get(name)!.code;

/** Starts the server of a page of the docs beside its HTML, until the test is over. */
async function serving(
  t: TestContext,
  page: string,
  { folder = temporaryFolder(t), port }: { folder?: string; port?: number } = {},
): ReturnType<typeof serveProgram> {
  writeFileSync(join(folder, 'page.html'), codeOf(page, 'page'));
  const program = await serveProgram(folder, codeOf(page, 'server'), port);
  t.after(() => program.child.kill('SIGKILL'));
  return program;
}

async function openPage(t: TestContext, url: string, context?: BrowserContext): Promise<Page> {
  const page = await (context ?? browser).newPage();
  t.after(() => page.close());
  page.on('pageerror', (error) => assert.fail(error));
  await page.goto(url);
  return page;
}

/** Waits until an element has exactly this text. */
const shows = async (page: Page, selector: string, text: string | RegExp): Promise<void> => {
  const { source } = text instanceof RegExp ? text : { source: `^${text}$` };
  await page.waitForFunction(
    ([selector, source]) => new RegExp(source!).test(document.querySelector(selector!)?.textContent ?? ''),
    [selector, source],
  );
};

describe('the pages of the guides', { timeout: 240_000 }, () => {
  it('start.md counts, and says what a restart has lost', async (t) => {
    const server = await serving(t, 'start.md');
    const page = await openPage(t, server.url);
    await shows(page, '#count', /^\d+$/);
    await shows(page, '#state', 'connected');
    server.child.kill('SIGKILL');
    await shows(page, '#state', 'reconnecting');
    await serving(t, 'start.md', { port: server.port });
    await shows(page, '#state', 'lost: unknown-epoch');
    await shows(page, '#count', /^\d+$/);
  });

  it('jobs.md shows a job to its end, and the same one after a reload', async (t) => {
    const { url } = await serving(t, 'guides/jobs.md');
    const page = await openPage(t, url);
    await page.waitForFunction(() => (document.querySelector('#bar') as HTMLProgressElement).value > 0);
    await page.reload();
    await shows(page, '#state', 'report.pdf');
    await page.reload();
    await shows(page, '#state', 'report.pdf');
  });

  it('jobs.md asks for the state of the job where the stream has lost it', async (t) => {
    const { child, port, url } = await serving(t, 'guides/jobs.md');
    const context = await browser.newContext();
    t.after(() => context.close());
    const page = await openPage(t, url, context);
    await page.waitForFunction(() => (document.querySelector('#bar') as HTMLProgressElement).value > 0);
    await shows(page, '#state', 'running');
    child.kill('SIGKILL');
    await serving(t, 'guides/jobs.md', { port });
    await shows(page, '#state', 'There is no such job.');

    // The stream is refused for good, as by a proxy, or ended before the page has read anything.
    await context.route('**/events/*', (route) => route.fulfill({ status: 502 }));
    const other = await openPage(t, url, context);
    await shows(other, '#state', 'report.pdf');
  });

  it('ticker.md shows the price of each symbol', async (t) => {
    const { url } = await serving(t, 'guides/ticker.md');
    const page = await openPage(t, url);
    await shows(page, 'table', /AAA\d+\.\d\dBBB\d+\.\d\dCCC\d+\.\d\d/);
  });

  it('tabs.md: two tabs show the same stream, of which one reads', async (t) => {
    // The modules that a bundler would bundle are those of the package.
    execFileSync('npm', ['run', '--silent', 'build'], { cwd: root });
    const folder = temporaryFolder(t);
    execFileSync('mkdir', ['-p', join(folder, 'node_modules')]);
    symlinkSync(root, join(folder, 'node_modules/sluice'));
    const { url } = await serving(t, 'guides/tabs.md', { folder });
    const context = await browser.newContext();
    t.after(() => context.close());
    const streams: string[] = [];
    context.on('request', (request) => {
      if (request.url().includes('/events')) streams.push(request.url());
    });
    const leader = await openPage(t, url, context);
    await shows(leader, '#role', 'leading');
    const other = await openPage(t, url, context);
    await shows(other, '#count', /^\d+$/);
    await shows(other, '#role', 'following');
    assert.equal(streams.length, 1);
    await leader.close();
    await shows(other, '#role', 'leading');
  });

  it('logs.md shows the lines of a file behind nginx, which passes on nothing else', async (t) => {
    const folder = temporaryFolder(t);
    chmodSync(folder, 0o755);
    writeFileSync(join(folder, 'app.log'), '');
    writeFileSync(join(folder, 'page.html'), codeOf('guides/logs.md', 'page'));
    const [, argv = ''] = /npx sluice serve --port 8080 (.+)/.exec(codeOf('guides/logs.md', 'serve')) ?? [];
    const origin = await startOrigin(t, argv.split(' '), 0, { cwd: folder });
    execFileSync('mkdir', [join(folder, 'node_modules')]);
    symlinkSync(root, join(folder, 'node_modules/sluice'));
    writeFileSync(
      join(folder, 'logs.conf'),
      codeOf('guides/logs.md', 'location').replace('/srv/logs', folder),
    );
    execFileSync('sh', ['-c', codeOf('guides/logs.md', 'configure')], { cwd: folder });
    const port = await freePort();
    const conf = substitute(readFileSync(join(folder, 'nginx.conf'), 'utf8'), [
      ['listen 127.0.0.1:8081;', `listen 127.0.0.1:${port};`],
      ['127.0.0.1:8080', `127.0.0.1:${origin.port}`],
      ['logs.conf', join(folder, 'logs.conf')],
    ]);
    const proxy = await runProxy(t, 'nginx', conf, port);
    const page = await openPage(t, `http://localhost:${proxy.port}/logs`);
    await shows(page, '#state', 'live');
    appendFileSync(join(folder, 'app.log'), 'hello\n');
    await shows(page, '#lines', /^hello\n$/);
    const statusOf = async (path: string, method = 'GET'): Promise<number> =>
      (await fetch(`http://localhost:${proxy.port}${path}`, { method })).status;
    assert.equal(await statusOf('/topics/log', 'POST'), 404);
    for (const path of ['/', '/metrics', '/metrics/recent', '/topics', '/dashboard/', '/readyz'])
      assert.equal(await statusOf(path), 404, path);
  });

  it('logs.md starts nginx in a folder of its own, and stops it', async (t) => {
    const folder = temporaryFolder(t);
    chmodSync(folder, 0o777);
    const port = await freePort();
    const text = `user www-data; events {} http { server { listen 127.0.0.1:${port}; return 204; } }`;
    writeFileSync(join(folder, 'nginx.conf'), text);
    const run = (name: string): unknown =>
      execFileSync('sh', ['-c', codeOf('guides/logs.md', name)], { cwd: folder, stdio: 'ignore' });
    run('start');
    assert.equal((await fetch(`http://127.0.0.1:${port}`)).status, 204);
    run('stop');
    while (existsSync(join(folder, 'ngx/nginx.pid'))) await sleep(10);
  });

  describe('notifications.md', () => {
    const project = makeProject();
    after(() => rmSync(project, { recursive: true, force: true }));

    it('compiles under `strict`', async () => {
      writeFileSync(join(project, 'server.mts'), here(codeOf('guides/notifications.md', 'server')));
      assert.equal(await typeErrorsIn(join(project, 'tsconfig.json'), [join(project, 'server.mts')]), '');
    });

    const starting = async (t: TestContext) => {
      const server = await serving(t, 'guides/notifications.md', { folder: project });
      const notify = (user: string, text: string): Promise<Response> =>
        fetch(`${server.url}/notify`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ user, text }),
        });
      return { server, notify };
    };

    const loggedIn = async (t: TestContext) => {
      const { server, notify } = await starting(t);
      const context = await browser.newContext();
      t.after(() => context.close());
      const page = await openPage(t, server.url, context);
      await Promise.all([page.waitForResponse('**/events?*'), page.click('#login')]);
      return { context, notify, page };
    };

    it('shows each notification once, whatever happens between the list and the stream', async (t) => {
      const { server, notify } = await starting(t);
      assert.equal((await fetch(`${server.url}/events`)).status, 401);
      await notify('ada', 'before');
      await notify('bob', 'for another');
      const context = await browser.newContext();
      t.after(() => context.close());
      const page = await openPage(t, server.url, context);
      // One is published after the position was taken and before the query: it is in the list and in the stream.
      await context.route('**/notifications', async (route) => {
        const { position } = await (await route.fetch()).json();
        await notify('ada', 'between');
        const response = await route.fetch();
        await route.fulfill({ response, json: { ...(await response.json()), position } });
      });
      await page.click('#login');
      await shows(page, '#list', /between/);
      await notify('ada', 'live');
      await shows(page, '#list', /live/);
      assert.deepEqual(await page.locator('li').allTextContents(), ['before', 'between', 'live']);

      await context.unroute('**/notifications');
      await page.click('#read');
      await shows(page, '#list', '');
      await notify('ada', 'new');
      await shows(page, '#list', 'new');
      await page.reload();
      await shows(page, '#list', 'new');
    });

    it('shows nothing of the user before, and asks to log in after a logout or a restart', async (t) => {
      const { server, notify } = await starting(t);
      const post = (page: Page, path: string, user: string): Promise<number> =>
        page.evaluate(
          async ([path, user]) => {
            const headers = { 'content-type': 'application/json' };
            return (await fetch(path!, { method: 'POST', headers, body: JSON.stringify({ user }) })).status;
          },
          [path, user],
        );
      await notify('bob', 'for bob');
      await notify('ada', 'for ada');
      const page = await openPage(t, server.url);
      await shows(page, '#state', 'Log in.');
      assert.equal(await post(page, '/login', 'bob'), 200);
      await page.reload();
      await shows(page, '#list', 'for bob');
      await page.click('#login');
      await shows(page, '#list', 'for ada');
      await shows(page, '#state', '');

      assert.equal(await post(page, '/logout', 'ada'), 200);
      await shows(page, '#state', 'Log in.');
      await page.click('#login');
      await shows(page, '#list', 'for ada');
      server.child.kill('SIGKILL');
      await serving(t, 'guides/notifications.md', { folder: project, port: server.port });
      await shows(page, '#state', 'Log in.');
      await page.click('#login');
      await shows(page, '#state', '');
      await notify('ada', 'the first again');
      await shows(page, '#list', 'the first again');
    });

    it('answers 400 to what is not JSON, and the commands as the page says', async (t) => {
      const { server } = await starting(t);
      const folder = temporaryFolder(t);
      const commandOf = (name: string): string =>
        codeOf('guides/notifications.md', name).replaceAll('http://127.0.0.1:8080', server.url);
      for (const path of ['/login', '/notify'])
        assert.equal(
          (await fetch(`${server.url}${path}`, { method: 'POST', body: 'a=1' })).status,
          400,
          path,
        );
      const bob = spawn('sh', ['-c', commandOf('bob')], { cwd: folder });
      t.after(() => bob.kill());
      const reading = new Reading(bob.stdout);
      await reading.until('sluice:ready');
      const run = (name: string, change = (command: string) => command): string =>
        execFileSync('sh', ['-c', change(commandOf(name))], { cwd: folder, encoding: 'utf8' });
      assert.equal(
        run('notify', (command) => command.replace('ada', 'bob')),
        '{}',
      );
      await reading.until('hello');
      const closed = once(bob, 'close');
      assert.equal(run('logout'), '{}');
      await closed;
    });

    it('marks as read only what was shown, and only where the server has taken it', async (t) => {
      const { page, context, notify } = await loggedIn(t);
      await notify('ada', 'first');
      await shows(page, '#list', /^first$/);
      await context.route('**/read', (route) => route.fulfill({ status: 500, json: {} }), { times: 1 });
      await Promise.all([page.waitForResponse('**/read'), page.click('#read')]);
      await context.route('**/read', async (route) => {
        await notify('ada', 'meanwhile');
        await shows(page, '#list', /meanwhile/);
        assert.equal(await page.textContent('#list'), 'firstmeanwhile', 'a failure hides nothing');
        await route.continue();
      });
      await page.click('#read');
      await shows(page, '#list', 'meanwhile');
      await page.reload();
      await shows(page, '#list', 'meanwhile');
    });

    it('begins again after a failure, and has one stream whatever begins at once', async (t) => {
      const { page, context, notify } = await loggedIn(t);
      await context.route('**/notifications', (route) => route.abort(), { times: 1 });
      await Promise.all([page.waitForResponse('**/events?*'), page.reload()]);
      await notify('ada', 'after a failure');
      await shows(page, '#list', /after a failure/);

      const opened: string[] = [];
      page.on('request', (request) => {
        if (request.url().includes('/events')) opened.push(request.url());
      });
      // Two logins at once: both lists are asked for before either has come.
      const held: (() => void)[] = [];
      await context.route('**/notifications', async (route) => {
        await new Promise<void>((resolve) => {
          held.push(resolve);
          if (held.length === 2) for (const one of held) one();
        });
        await route.continue();
      });
      await page.evaluate(() => {
        const button = document.querySelector('#login') as HTMLButtonElement;
        button.click();
        button.click();
      });
      while (opened.length === 0) await page.waitForRequest('**/events?*');
      await notify('ada', 'once');
      await shows(page, '#list', /once/);
      assert.equal(opened.length, 1);
    });
  });
});

describe('docs/migrating.md', { timeout: 60_000 }, () => {
  it('express-sse: each client gets the initial content, then what is new', async (t) => {
    const project = makeProject();
    t.after(() => rmSync(project, { recursive: true, force: true }));
    const code = codeOf('migrating.md', 'after-express-sse');
    const { child, url } = await serveProgram(project, code);
    t.after(() => child.kill('SIGKILL'));
    const reader = await Reader.open(`${url}/stream`);
    await reader.until(({ events }) => events.length >= 2);
    reader.close();
    const first = reader.events.slice(0, 2).map(({ event, data }) => [event, data]);
    assert.deepEqual(first, [
      [undefined, '"ready"'],
      ['headline', '{"title":"hello"}'],
    ]);
    const file = join(project, 'server.mts');
    writeFileSync(file, here(code));
    assert.equal(await typeErrorsIn(join(project, 'tsconfig.json'), [file]), '');
  });
});
