// Runs the programs of docs/start.md, docs/guides and docs/migrating.md as they stand. Pages, nginx and Express
// are in test/interop.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { controlEvents, gapReasons, parseId } from '../lib/protocol.ts';
import { examplesOf, here, typeErrorsIn } from './helpers/docs.ts';
import { type Program, serveProgram, startProgram, temporaryFolder } from './helpers/programs.ts';
import { Reader } from './helpers/reader.ts';
import { sqlite } from './helpers/sqlite.ts';

const docs = new URL('../docs/', import.meta.url);
const codeOf = (page: string, name: string): string => examplesOf(new URL(page, docs)).get(name)!.code;

interface ServeOptions {
  readonly folder?: string;
  readonly port?: number;
  /** Milliseconds in the place of the second for which some programs wait between two events. */
  readonly interval?: number;
}

/** Starts the server of a page, until the test is over. */
async function serving(
  t: TestContext,
  page: string,
  { folder = temporaryFolder(t), port, interval = 1000 }: ServeOptions = {},
): ReturnType<typeof serveProgram> {
  const examples = examplesOf(new URL(page, docs));
  if (examples.has('page')) writeFileSync(join(folder, 'page.html'), examples.get('page')!.code);
  const code = examples.get('server')!.code.replace(', 1000)', `, ${interval})`);
  const program = await serveProgram(folder, code, port);
  t.after(() => program.child.kill('SIGKILL'));
  return program;
}

const seqOf = (id: string | undefined): number => parseId(id)!.seq;
const gapsOf = ({ frames }: Reader): unknown[] => frames.filter(({ event }) => event === 'sluice:gap');

describe('docs/start.md', { timeout: 120_000 }, () => {
  it('its reader resumes where it stopped, and is told of a restart', async (t) => {
    const folder = temporaryFolder(t);
    const server = await serving(t, 'start.md', { folder, interval: 100 });
    assert.match(await (await fetch(server.url)).text(), /new EventSource\('\/events\?topic=counter'\)/);
    const code = codeOf('start.md', 'reader').replaceAll('http://127.0.0.1:8080', server.url);
    const read = (): Program => {
      const reader = startProgram(folder, 'reader.mts', code);
      t.after(() => reader.child.kill('SIGKILL'));
      return reader;
    };
    const numbersOf = ({ output }: Program): number[] =>
      Array.from(output().matchAll(/"count":(\d+)/g), ([, count]) => Number(count));
    const until = async (reader: Program, condition: () => boolean): Promise<void> => {
      while (!condition()) {
        assert.equal(reader.child.exitCode, null, reader.output());
        await sleep(20);
      }
    };
    const stopped = async (reader: Program): Promise<number[]> => {
      const closed = once(reader.child, 'close');
      // Not before its position is in the file: it is stored once the next event is asked for.
      await until(reader, () => readdirSync(folder).includes('position.json'));
      reader.child.kill('SIGKILL');
      await closed;
      return numbersOf(reader);
    };

    const first = read();
    await until(first, () => numbersOf(first).length >= 2);
    const before = await stopped(first);
    const live = await Reader.open(`${server.url}/events?topic=counter`);
    await live.until(({ data }) => data.some((one) => JSON.parse(one).count >= before.at(-1)! + 2));
    live.close();
    const second = read();
    await until(second, () => numbersOf(second).length >= 2);
    // At least once: what it had not stored yet comes again.
    const [begin = 0] = numbersOf(second);
    assert.ok(begin <= before.at(-1)! + 1, `${before} and then ${begin}`);
    assert.deepEqual(
      numbersOf(second),
      numbersOf(second).map((_, n) => begin + n),
    );

    const closed = once(server.child, 'close');
    server.child.kill('SIGTERM');
    await closed;
    await serving(t, 'start.md', { folder, port: server.port });
    await until(second, () => second.output().includes('lost: unknown-epoch'));
  });
});

describe('docs/guides', { timeout: 120_000 }, () => {
  for (const [page, method, path] of [
    ['start.md', 'GET', '/'],
    ['guides/jobs.md', 'GET', '/'],
    ['guides/tabs.md', 'GET', '/sluice/missing.js'],
  ] as const) {
    it(`${page}: a file that is missing fails its request, and the server goes on`, async (t) => {
      const folder = temporaryFolder(t);
      const { url } = await serving(t, page, { folder });
      rmSync(join(folder, 'page.html'));
      assert.equal((await fetch(`${url}${path}`, { method })).status, 500);
      const reader = await Reader.open(`${url}/events?topic=counter`);
      assert.equal(reader.status, 200);
      reader.close();
    });
  }

  for (const page of ['start.md', 'guides/jobs.md', 'guides/tabs.md', 'generations.md']) {
    it(`${page}: a link on another site opens the page, and reads no stream`, async (t) => {
      const { url } = await serving(t, page);
      const ask = async (path: string, dest: string, mode: string): Promise<number> => {
        const headers = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': mode, 'sec-fetch-dest': dest };
        const reader = await Reader.open(`${url}${path}`, { headers });
        reader.close();
        return reader.status;
      };
      assert.equal(await ask('/', 'document', 'navigate'), 200);
      assert.equal(await ask('/events/answer-1', 'document', 'navigate'), 403);
      assert.equal(await ask('/events/answer-1', 'empty', 'cors'), 403);
    });
  }

  it('jobs: a job is shown from where it is, and its topic ends with it', async (t) => {
    const { url } = await serving(t, 'guides/jobs.md');
    const response = await fetch(`${url}/jobs`, { method: 'POST' });
    assert.equal(response.status, 202);
    const { topic } = (await response.json()) as { topic: string };
    const events = `${url}/events/${topic}?from=earliest&conflate=1`;
    const whole = await Reader.open(events);
    await whole.over;
    assert.deepEqual(whole.events.at(-1), {
      id: whole.events.at(-1)!.id,
      event: 'done',
      data: '{"result":"report.pdf"}',
    });
    assert.equal(whole.frames.at(-1)?.event, 'sluice:end');

    const late = await Reader.open(events);
    await late.over;
    assert.deepEqual(late.data, ['{"percent":90}', '{"result":"report.pdf"}']);
    const again = await fetch(events, { headers: { 'Last-Event-ID': late.lastEventId } });
    assert.equal(again.status, 204);
  });

  it('ticker: a client that was away gets the newest of each key, then every tick', async (t) => {
    const { url } = await serving(t, 'guides/ticker.md');
    const all = await Reader.open(`${url}/events?from=earliest`);
    await all.until(({ events }) => events.length >= 60);
    all.close();
    const conflating = await Reader.open(`${url}/events?conflate=1`, {
      headers: { 'Last-Event-ID': all.events[2]!.id! },
    });
    await conflating.until(({ events }) => events.length >= 9);
    conflating.close();
    const symbols = conflating.data.slice(0, 3).map((data) => JSON.parse(data).symbol);
    assert.deepEqual(symbols.sort(), ['AAA', 'BBB', 'CCC']);
    assert.ok(seqOf(conflating.events[0]!.id) > 57, 'it got none of those that were replaced');
    assert.deepEqual(gapsOf(conflating), []);
  });

  it('auth: a cookie, a token and a ticket admit, each to what its user may read', async (t) => {
    const { url } = await serving(t, 'guides/auth.md', { interval: 100 });
    const post = (path: string, headers: Record<string, string> = {}): Promise<Response> =>
      fetch(`${url}${path}`, { method: 'POST', headers });
    const statusOf = async (query: string, headers: Record<string, string> = {}): Promise<number> => {
      const reader = await Reader.open(`${url}/events?${query}`, { headers });
      reader.close();
      return reader.status;
    };
    const login = await post('/login');
    const [cookie = ''] = login.headers.get('set-cookie')!.split(';');
    const { token } = (await login.json()) as { token: string };
    const bearer = { authorization: `Bearer ${token}` };

    assert.equal(await statusOf('topic=news'), 401);
    assert.equal((await post('/tickets')).status, 401);
    assert.equal(await statusOf('topic=news', { cookie }), 200);
    assert.equal(await statusOf('topic=user:ada', bearer), 200);
    assert.equal(await statusOf('topic=user:bob', bearer), 403);
    assert.equal(await statusOf('topic=news', { cookie, origin: 'https://elsewhere.example' }), 403);
    const { ticket } = (await (await post('/tickets', bearer)).json()) as { ticket: string };
    assert.equal(await statusOf(`topic=news&ticket=${ticket}`), 200);
    assert.equal(await statusOf(`topic=news&ticket=${ticket}`), 401);

    const reader = await Reader.open(`${url}/events?topic=news`, { headers: { cookie } });
    await reader.until(({ events }) => events.length > 0);
    await post('/logout', bearer);
    await reader.over;
    assert.equal(await statusOf('topic=news', { cookie }), 401);
  });

  if (sqlite === undefined) {
    it('deploys: its program says which Node it needs', async (t) => {
      const program = startProgram(temporaryFolder(t), 'server.mts', codeOf('guides/deploys.md', 'server'));
      await once(program.child, 'close');
      assert.match(program.output(), /ERR_SSE_SQLITE_MISSING/);
    });
  } else {
    it('deploys: a client goes on where it was in the next process', async (t) => {
      const folder = temporaryFolder(t);
      const first = await serving(t, 'guides/deploys.md', { folder });
      const tick = async (): Promise<string> =>
        (await fetch(`${first.url}/tick`, { method: 'POST', headers: { connection: 'close' } })).text();
      const id = await tick();
      const reader = await Reader.open(`${first.url}/events/ticks?last=1`);
      await reader.until(({ lastEventId }) => lastEventId === id);
      const missed = await tick();
      const closed = once(first.child, 'close');
      first.child.kill('SIGTERM');
      // A probe on a connection of its own: some are answered before the signal has arrived.
      const probe = async (): Promise<number> =>
        (await fetch(`${first.url}/readyz`, { headers: { connection: 'close' } })).status;
      while ((await probe()) === 200) await sleep(20);
      assert.equal(await probe(), 503);
      await reader.over;
      assert.equal(reader.retries.length, 2);
      assert.deepEqual(await closed, [0, null]);

      await serving(t, 'guides/deploys.md', { folder, port: first.port });
      const newest = await tick();
      const second = await Reader.open(`${first.url}/events/ticks`, { headers: { 'Last-Event-ID': id } });
      await second.until(({ lastEventId }) => lastEventId === newest);
      assert.deepEqual(
        second.events.map((event) => event.id),
        [missed, newest],
      );
      assert.deepEqual(gapsOf(second), []);
      second.close();
    });
  }
});

describe('docs/migrating.md', { timeout: 120_000 }, () => {
  const examples = examplesOf(new URL('migrating.md', docs));

  /** Starts the program of a chapter after the change, and opens its stream. */
  async function open(t: TestContext, name: string, path = '/'): Promise<{ reader: Reader; url: string }> {
    const { child, url } = await serveProgram(temporaryFolder(t), examples.get(name)!.code);
    t.after(() => child.kill('SIGKILL'));
    const reader = await Reader.open(`${url}${path}`);
    t.after(() => reader.close());
    return { reader, url };
  }
  const eventsOf = ({ events }: Reader): unknown[] => events.map(({ event, data }) => [event, data]);

  it('better-sse: a greeting for each client, then what is published to all', async (t) => {
    const { reader } = await open(t, 'after-better-sse');
    await reader.until(({ events }) => events.length >= 2);
    assert.deepEqual(eventsOf(reader).slice(0, 2), [
      ['greeting', '"welcome"'],
      ['headline', '{"title":"hello"}'],
    ]);
  });

  it('sse-channel: the topic is in the path', async (t) => {
    const { reader, url } = await open(t, 'after-sse-channel', '/channel/dates');
    await reader.until(({ events }) => events.length > 0);
    assert.equal(reader.events[0]!.event, 'date');
    assert.match(reader.events[0]!.data, /^\{"now":\d+\}$/);
    assert.equal((await fetch(`${url}/elsewhere`)).status, 404);
  });

  it('Socket.IO: what is posted to a room reaches those in it', async (t) => {
    const { reader, url } = await open(t, 'after-socket-io', '/rooms/lobby');
    await reader.until(({ frames }) => frames.length > 0);
    for (const room of ['kitchen', 'lobby']) {
      const response = await fetch(`${url}/rooms/${room}`, { method: 'POST', body: `to the ${room}` });
      assert.equal(response.status, 204);
    }
    await reader.until(({ events }) => events.length > 0);
    assert.deepEqual(eventsOf(reader), [['message', '{"text":"to the lobby"}']]);
    const large = await fetch(`${url}/rooms/lobby`, { method: 'POST', body: 'x'.repeat(64 * 1024 + 1) });
    assert.equal(large.status, 413);
    assert.equal((await fetch(`${url}/elsewhere`)).status, 404);
  });

  it('a loop of res.write: each client gets the time', async (t) => {
    const { reader } = await open(t, 'after-loop');
    await reader.until(({ events }) => events.length > 0);
    assert.match(reader.data[0]!, /^\{"now":\d+\}$/);
  });

  it('has a program after for each one before', () => {
    const names = [...examples.keys()];
    const chapters = names.flatMap((name) => /^before-(.+)$/.exec(name)?.[1] ?? []);
    assert.deepEqual(
      names,
      chapters.flatMap((chapter) => [`before-${chapter}`, `after-${chapter}`]),
    );
    // That of Express runs in test/interop.
    assert.deepEqual(chapters, ['better-sse', 'express-sse', 'sse-channel', 'socket-io', 'loop']);
  });
});

describe('the programs of docs/start.md and docs/guides', () => {
  /** Run in test/interop, which has browsers, Express and nginx. */
  const inInterop = ['logs/', 'notifications/', 'tabs/'];
  const pages = readdirSync(new URL('guides/', docs)).filter((page) => page !== 'README.md');
  const programs = ['start.md', ...pages.map((page) => `guides/${page}`)].flatMap((page) =>
    Array.from(examplesOf(new URL(page, docs)), ([name, example]) => ({
      name: `${page.replace(/^guides\/|\.md$/g, '')}/${name}`,
      ...example,
    })),
  );

  it('are all run, here or in test/interop', () => {
    const names = programs.filter(({ language }) => language === 'ts').map(({ name }) => name);
    assert.deepEqual(names.filter((name) => !inInterop.some((page) => name.startsWith(page))).sort(), [
      'auth/server',
      'deploys/server',
      'jobs/server',
      'start/log',
      'start/reader',
      'start/server',
      'ticker/server',
    ]);
    const interop = readFileSync(new URL('interop/docs-guides.test.ts', import.meta.url), 'utf8');
    for (const page of inInterop) assert.ok(interop.includes(`guides/${page.slice(0, -1)}.md`), page);
    for (const { language, name } of programs) {
      if (language === 'html') assert.ok(interop.includes(`${name.split('/')[0]}.md`), name);
    }
  });

  it('each give `onError` to a handler that they compose: otherwise one failure ends the process', () => {
    const without = programs.filter(({ code }) => code.includes('compose(') && !code.includes('onError:'));
    assert.deepEqual(without, []);
  });

  it('compile under `strict`, with those of docs/migrating.md', { timeout: 120_000 }, async (t) => {
    const folder = temporaryFolder(t);
    const migrating = Array.from(examplesOf(new URL('migrating.md', docs)), ([name, example]) => ({
      name,
      ...example,
    }));
    const files = [...programs, ...migrating]
      .filter(({ language, code }) => language === 'ts' && !code.includes("'express'"))
      .map(({ name, code }) => {
        const file = join(folder, `${name.replace('/', '-')}.mts`);
        writeFileSync(file, here(code));
        return file;
      });
    assert.ok(files.length > 10, `${files.length} programs`);
    const lib = ['es2024', 'dom', 'dom.iterable'];
    assert.equal(await typeErrorsIn(join(folder, 'tsconfig.json'), files, { lib }), '');
  });

  it('are all linked from the list of guides', () => {
    const index = readFileSync(fileURLToPath(new URL('guides/README.md', docs)), 'utf8');
    for (const page of pages) assert.ok(index.includes(`](${page})`), page);
  });
});

describe('docs/protocol.md', () => {
  it('names every control event and every reason of a gap', () => {
    const text = readFileSync(new URL('protocol.md', docs), 'utf8');
    for (const name of [...Object.values(controlEvents), ...gapReasons])
      assert.match(text, new RegExp(`^\\| \`${name}\` \\|`, 'm'));
  });
});

describe('docs/troubleshooting.md', () => {
  const text = readFileSync(new URL('troubleshooting.md', docs), 'utf8');

  it('names for each fact about what is not tested here the page that documents it', () => {
    const rows = Array.from(
      text.matchAll(/<!-- documented -->\n\|.*\n\|.*\n((?:\|.*\n)+)/g),
      ([, table = '']) => table.trimEnd().split('\n'),
    ).flat();
    assert.ok(rows.length > 10, `${rows.length} rows`);
    const without = rows.filter((row) => !/^\| \[.+\]\(https:\/\/\S+\)/.test(row));
    assert.deepEqual(without, []);
  });

  it('calls tested only what has a file in docs/proxies and a test', () => {
    const [, section = ''] = text.split('## Proxies that are tested here');
    const [table = ''] = section.split(/^## /m);
    const files = Array.from(table.matchAll(/\]\(proxies\/(\S+)\)/g), ([, file]) => file);
    assert.deepEqual(files.sort(), readdirSync(new URL('proxies/', docs)).sort());
    const tests = readFileSync(new URL('interop/helpers/proxy.ts', import.meta.url), 'utf8');
    for (const file of files) assert.ok(tests.includes(`file: '${file}'`), file);
  });
});
