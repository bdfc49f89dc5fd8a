import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createSseServer } from '../lib/server.ts';
import { typeErrorsOf as compilerErrorsOf, here } from './helpers/docs.ts';
import { type Program, serveProgram, startProgram } from './helpers/programs.ts';
import { Reader } from './helpers/reader.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'sluice-docs-'));
after(() => rmSync(folder, { recursive: true }));

const textOf = (page: string): string => readFileSync(join(root, page), 'utf8');

// ── running examples ──────────────────────────────────────────────────────────────────────────────────────

/** Every example of a page: a block of TypeScript under a comment that names it. */
function examplesOf(page: string): Map<string, string> {
  const blocks = textOf(page).matchAll(/<!-- example: (\w+) -->\n```ts\n([\s\S]*?)```/g);
  return new Map(Array.from(blocks, ([, name = '', code = '']) => [name, code]));
}

const start = (file: string, code: string): Program => startProgram(folder, file, code);
const run = (code: string): ReturnType<typeof serveProgram> => serveProgram(folder, code);

/** Runs an example that reads until it has stored this id; fails where it did not print the expected text. */
async function runReader(code: string, url: string, idOf: () => string, expected: string): Promise<void> {
  const { child, output } = start('reader.mts', code.replaceAll('http://127.0.0.1:8080', url));
  const position = join(folder, 'news.position.json');
  while (!existsSync(position) || !readFileSync(position, 'utf8').includes(idOf())) {
    assert.equal(child.exitCode, null, output());
    await sleep(20);
  }
  while (output() === '') await once(child.stdout as NodeJS.ReadableStream, 'data');
  child.kill('SIGKILL');
  assert.equal(output(), `${expected}\n`);
}

const typeErrorsOf = (name: string, code: string): Promise<string> =>
  compilerErrorsOf(join(folder, `types-${name}.mts`), here(code));

describe('the examples of docs/api.md', () => {
  const examples = examplesOf('docs/api.md');

  it('feed: a reader gets every line of standard input, then the end', async () => {
    const { url, child, output } = await run(examples.get('feed') as string);
    const reader = await Reader.open(url);
    await reader.until(({ frames }) => frames.length > 0);
    const lines = Array.from({ length: 30_000 }, (_, n) => `line ${n}`);
    child.stdin!.end(`${lines.join('\n')}\n`);
    await reader.over;
    assert.deepEqual(reader.data, lines);
    assert.equal(reader.frames.at(-1)?.event, 'sluice:end');
    while (!output().includes('30000 lines')) await once(child.stdout as NodeJS.ReadableStream, 'data');
    child.kill();
  });

  it('tail: a reader gets what is appended to a file, also after a rotation', async () => {
    const { url, child } = await run(examples.get('tail') as string);
    const reader = await Reader.open(`${url}/?from=earliest`);
    const file = join(folder, 'app.log');
    writeFileSync(file, 'one\ntwo\n');
    await reader.until(({ data }) => data.length >= 2);
    renameSync(file, `${file}.1`);
    writeFileSync(file, 'three\n');
    await reader.until(({ data }) => data.length >= 3);
    assert.deepEqual(reader.data, ['one', 'two', 'three']);
    child.kill('SIGKILL');
  });

  it('drain: a server that stops ends its streams, each with a time to reconnect after', async () => {
    const { url, child, output } = await run(examples.get('drain') as string);
    const reader = await Reader.open(`${url}/?from=earliest`);
    await reader.until(({ data }) => data.length >= 1);
    const closed = once(child, 'close');
    child.kill('SIGTERM');
    await reader.over;
    // The first came with the head of the stream.
    assert.equal(reader.retries.length, 2);
    await closed;
    assert.equal(JSON.parse(output()).ended, 1);
  });

  it('middleware: serveEvents passes other paths on to the next middleware', async () => {
    const { url, child } = await run(examples.get('middleware') as string);
    assert.equal(await (await fetch(url)).text(), 'not a stream');
    const reader = await Reader.open(`${url}/events/news?last=1`);
    await reader.until(({ data }) => data.length >= 1);
    assert.deepEqual(reader.data, ['{"title":"hello"}']);
    reader.close();
    assert.equal((await fetch(url, { headers: { origin: 'https://elsewhere.example' } })).status, 403);
    child.kill();
  });

  it('metrics: a server of one’s own renders a page of metrics', async () => {
    const { url, child } = await run(examples.get('metrics') as string);
    const page = await (await fetch(url)).text();
    assert.match(page, /^app_listeners 3$/m);
    assert.match(page, /^app_request_seconds_count 1$/m);
    child.kill();
  });

  it('frames: a client gets the events that it has missed', async () => {
    const { child, output } = start('frames.mts', examples.get('frames') as string);
    await once(child, 'close');
    assert.equal(output(), 'id: 2\ndata: x\n\nid: 3\ndata: x\n\n');
  });

  it('contract: a log that keeps too little is told which clauses it breaks, and how many need faults', async () => {
    const { child, output } = start('contract.mts', examples.get('contract') as string);
    await once(child, 'close');
    const [first, ...broken] = output().trimEnd().split('\n');
    assert.match(first as string, /^\d+ clauses need more than this harness has$/);
    assert.ok(
      broken.every((line) => /^[a-z][\w ]+: it is not true that /.test(line)),
      output(),
    );
    assert.match(output(), /^topics: it is not true that `end` ends a topic once/m);
    assert.doesNotMatch(output(), /a client that returns gets all that it has missed/);
  });

  it('response: a route answers with topics of a hub, or with what a source yields', async () => {
    const file = join(folder, 'response.mts');
    writeFileSync(file, here(examples.get('response') as string));
    const { GET, POST } = await import(file);
    const url = 'http://127.0.0.1/?from=earliest';
    assert.equal((await GET(new Request(url))).status, 401);
    const response: Response = await GET(new Request(url, { headers: { cookie: 'session=1' } }));
    let text = '';
    for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
      text += piece;
      if (text.includes('data: hello\n\n')) break;
    }
    const answer: Response = await POST(new Request(url, { method: 'POST', body: 'Streams are' }));
    assert.equal(await answer.text(), ':\ndata: Streams\n\ndata: are\n\ndata: [DONE]\n\n');
  });

  it('are all run here, and compile under `strict`', async () => {
    assert.deepEqual(
      [...examples.keys()],
      ['middleware', 'response', 'feed', 'tail', 'frames', 'contract', 'drain', 'metrics'],
    );
    for (const [name, code] of examples) assert.equal(await typeErrorsOf(name, code), '');
  });
});

describe('the examples of the README', () => {
  const examples = examplesOf('README.md');

  it('embed: a client that returns gets what it missed, without a gap', async () => {
    const { url, child } = await run(examples.get('embed') as string);
    const first = await Reader.open(url);
    await first.until(({ events }) => events.length >= 1);
    first.close();
    const second = await Reader.open(url, { headers: { 'Last-Event-ID': first.lastEventId } });
    await second.until(({ events }) => events.length >= 1);
    assert.ok((second.data[0] as string) > (first.data[0] as string));
    assert.equal(
      second.frames.some(({ event }) => event === 'sluice:gap'),
      false,
    );
    second.close();
    child.kill();
  });

  it('typed: the program compiles and runs, and its commented-out line does not compile', async () => {
    const code = examples.get('typed') as string;
    assert.equal(await typeErrorsOf('typed', code), '');
    const { child, output } = start('typed.mts', code);
    const [exitCode] = await once(child, 'close');
    assert.deepEqual({ exitCode, output: output() }, { exitCode: 0, output: '' });
    const wrong = code.replace(/^\/\/ (hub\.publish\(.+\);).*$/m, '$1');
    assert.notEqual(wrong, code);
    assert.match(await typeErrorsOf('wrong', wrong), /'string' is not assignable to type 'number'/);
  });

  it('read: a reader continues after a restart where it stopped', async () => {
    const sse = createSseServer();
    const url = await sse.listen(0);
    const { hub } = sse;
    const code = examples.get('read') as string;
    let id = 'none yet';
    const first = runReader(code, url, () => id, 'before');
    while (hub.size === 0) await sleep(10);
    id = hub.publish('news', { json: { title: 'before' } });
    await first;
    id = hub.publish('news', { json: { title: 'meanwhile' } });
    await runReader(code, url, () => id, 'meanwhile');
    await sse.close({ deadline: 100 });
  });

  it('pipe: a stream for one client ends after its source', async () => {
    const { url, child, output } = await run(examples.get('pipe') as string);
    const reader = await Reader.open(url);
    await reader.over;
    assert.deepEqual(
      reader.frames.map(({ event, data }) => [event, data]),
      [
        ['token', 'Streams'],
        ['token', 'are'],
        ['token', 'cursors.'],
        ['sluice:end', '{}'],
      ],
    );
    while (!/^ended\n.*ended\n/s.test(output())) await once(child.stdout as NodeJS.ReadableStream, 'data');
    child.kill();
  });

  it('are all run here, and compile under `strict`', async () => {
    assert.deepEqual([...examples.keys()], ['embed', 'typed', 'read', 'pipe']);
    for (const name of ['embed', 'pipe', 'read'])
      assert.equal(await typeErrorsOf(name, examples.get(name) as string), '');
  });
});

describe('the examples of docs/generations.md', () => {
  const examples = examplesOf('docs/generations.md');
  const [, page = ''] =
    /<!-- example: page -->\n```html\n([\s\S]*?)```/.exec(textOf('docs/generations.md')) ?? [];
  writeFileSync(join(folder, 'page.html'), page);

  async function begin(url: string, question: string): Promise<{ topic: string; start: string }> {
    const response = await fetch(`${url}/answers?question=${question}`, { method: 'POST' });
    assert.equal(response.status, 201);
    return (await response.json()) as { topic: string; start: string };
  }

  it('server: answers whoever reads, from any place on, and ends with `done`', async () => {
    const { url, child } = await run(examples.get('server') as string);
    assert.equal(await (await fetch(url)).text(), page);
    // Many words, so that the answer still runs when its first reader comes.
    const whys = Array.from({ length: 30 }, () => 'why');
    const { topic, start } = await begin(url, whys.join('+'));
    const events = `${url}/events/${topic}?lastEventId=${start}`;
    const first = await Reader.open(events);
    await first.until(({ data }) => data.length >= 2);
    first.close();
    const second = await Reader.open(events, { headers: { 'Last-Event-ID': first.lastEventId } });
    await second.over;
    assert.deepEqual(
      [...first.events, ...second.events].map(({ event, data }) => [event, data]),
      [...['You', 'have', 'asked:', ...whys].map((word) => ['token', `${word} `]), ['done', '{}']],
    );
    const last = await fetch(events, { headers: { 'Last-Event-ID': second.lastEventId } });
    assert.equal(last.status, 204);
    child.kill();
  });

  it('server: stops an answer, and says whether there was one', async () => {
    const { url, child } = await run(examples.get('server') as string);
    const { topic } = await begin(url, 'why+'.repeat(100));
    const reader = await Reader.open(`${url}/events/${topic}?from=earliest`);
    await reader.until(({ data }) => data.length >= 1);
    const stop = async () => await (await fetch(`${url}/answers/${topic}`, { method: 'DELETE' })).json();
    assert.deepEqual(await stop(), { stopped: true });
    await reader.over;
    assert.equal(reader.events.at(-1)?.event, 'stopped');
    assert.deepEqual(await stop(), { stopped: false });
    assert.equal((await fetch(`${url}/events/generations`)).status, 403);
    child.kill();
  });

  it('server: refuses an empty question', async () => {
    const { url, child } = await run(examples.get('server') as string);
    const response = await fetch(`${url}/answers`, { method: 'POST', body: '{"question":"why"}' });
    assert.equal(response.status, 400);
    child.kill();
  });

  it('server: logs what a model has thrown, and not that it was stopped', async () => {
    const code = (examples.get('server') as string).replace(
      'yield { event',
      "if (word === 'fails') throw new Error('out of tokens');\n    yield { event",
    );
    const { url, child, output } = await run(code);
    const { topic } = await begin(url, 'why+'.repeat(100));
    await fetch(`${url}/answers/${topic}`, { method: 'DELETE' });
    const failing = await begin(url, 'fails');
    const reader = await Reader.open(`${url}/events/${failing.topic}?lastEventId=${failing.start}`);
    await reader.over;
    assert.equal(reader.events.at(-1)?.event, 'failed');
    while (!output().includes('out of tokens')) await sleep(20);
    assert.equal(output().match(/Error/g)?.length, 1, output());
    child.kill();
  });

  it('curl: begins an answer, reads it, goes on where that was cut, and stops it', async () => {
    const { url, child } = await run(examples.get('server') as string);
    const [, block = ''] =
      /<!-- example: curl -->\n```sh\n([\s\S]*?)```/.exec(textOf('docs/generations.md')) ?? [];
    const lines = block.replaceAll('http://127.0.0.1:8080', url).trimEnd().split('\n');
    assert.equal(lines.length, 4);
    /** Runs a line until it has printed this many tokens, or to its end. */
    const curl = async (line: string, tokens = Number.POSITIVE_INFINITY): Promise<string> => {
      const shell = spawn('sh', ['-c', `exec ${line}`], { stdio: ['ignore', 'pipe', 'ignore'] });
      let printed = '';
      for await (const chunk of shell.stdout.setEncoding('utf8')) {
        printed += chunk;
        if ((printed.match(/^data: \w+ $/gm) ?? []).length >= tokens) break;
      }
      shell.kill();
      return printed;
    };
    const { topic, start } = JSON.parse(await curl(lines[0] as string));
    const first = await curl((lines[1] as string).replace('TOPIC', topic).replace('START', start), 2);
    assert.match(first, /^data: You \n[\s\S]*^data: have \n/m);
    const [, id = ''] = /^id: (.+)\n(?:.+\n)*data: have /m.exec(first) ?? [];
    const second = await curl((lines[2] as string).replace('TOPIC', topic).replace(': ID', `: ${id}`), 1);
    assert.equal(/^data: (\w+:?) $/m.exec(second)?.[1], 'asked:');
    assert.deepEqual(JSON.parse(await curl((lines[3] as string).replace('TOPIC', topic))), { stopped: true });
    child.kill();
  });

  it('server: tells readers that an answer has failed where it stops itself', async () => {
    const { url, child } = await run(examples.get('server') as string);
    const { topic } = await begin(url, 'why+'.repeat(100));
    const reader = await Reader.open(`${url}/events/${topic}?from=earliest`);
    await reader.until(({ data }) => data.length >= 1);
    const closed = once(child, 'close');
    child.kill('SIGTERM');
    await reader.over;
    assert.deepEqual(
      reader.frames.slice(-2).map(({ event }) => event),
      ['failed', 'sluice:end'],
    );
    assert.deepEqual(await closed, [0, null]);
  });

  it('are all run here, and compile under `strict`; test/interop/docs-generations.test.ts opens the page', async () => {
    assert.deepEqual([...examples.keys()], ['server']);
    assert.equal(await typeErrorsOf('generations', examples.get('server') as string), '');
  });
});

// ── names ─────────────────────────────────────────────────────────────────────────────────────────────────

/** The text of a page without its blocks of code. */
const proseOf = (page: string): string => textOf(page).replace(/^```[\s\S]*?^```$/gm, '');

/** Every inline piece of code. */
const codeIn = (text: string): string[] => Array.from(text.matchAll(/`([^`\n]+)`/g), ([, code = '']) => code);

/** The rows of the tables under the comments `<!-- NAME -->` of a page, each as its cells. */
function tablesOf(page: string, name: string): string[][] {
  const tables = textOf(page).matchAll(new RegExp(`<!-- ${name} -->\\n\\|.*\\n\\|.*\\n((?:\\|.*\\n)+)`, 'g'));
  return Array.from(tables, ([, rows = '']) => rows.trimEnd().split('\n'))
    .flat()
    .map((row) => row.split('|').slice(1, -1));
}

const sorted = (names: Iterable<string>): string[] => [...new Set(names)].sort();

async function exportsOf(module: string): Promise<string[]> {
  return Object.keys(await import(`../lib/${module}.ts`)).sort();
}

const { exports: exported } = JSON.parse(textOf('package.json'));
const publicModules = Object.keys(exported).flatMap((key) => /^\.\/([a-z-]+)$/.exec(key)?.[1] ?? []);

describe('docs/api.md', () => {
  it('lists the modules of the package, and what each of them and the root exports', async () => {
    const rootNames = await exportsOf('index');
    const actual = publicModules.map(async (module) => {
      const names = await exportsOf(module);
      return [
        module,
        names.filter((name) => rootNames.includes(name)),
        names.filter((name) => !rootNames.includes(name)),
      ];
    });
    const stated = tablesOf('docs/api.md', 'modules').map(([module = '', ...cells]) => [
      codeIn(module)[0]?.replace('sluice/', ''),
      ...cells.slice(0, 2).map((cell) => sorted(codeIn(cell))),
    ]);
    assert.deepEqual(stated, await Promise.all(actual));
  });

  it('explains each exported value in a heading or in backticks, or another page does', async () => {
    const pages = ['docs/api.md', 'docs/client.md', 'docs/testing.md'].map(proseOf).join('\n');
    const prose = pages.replace(/<!-- modules -->\n(?:\|.*\n)+/, '');
    const headings = Array.from(prose.matchAll(/^#+ (.+)$/gm), ([, text = '']) => text);
    const named = new Set([...headings, ...codeIn(prose)].flatMap((text) => text.match(/\w+/g) ?? []));
    const names = (await Promise.all(['index', ...publicModules].map(exportsOf))).flat();
    assert.deepEqual(
      sorted(names).filter((name) => !named.has(name)),
      [],
    );
  });
});

describe('docs/errors.md', () => {
  const errors = tablesOf('docs/errors.md', 'errors');

  it('has every error code of lib/ and no other in its tables', () => {
    const files = readdirSync(join(root, 'lib')).filter((name) => name.endsWith('.ts'));
    const sources = files.map((name) => textOf(`lib/${name}`));
    const literal = sources.flatMap((source) => source.match(/ERR_SSE_[A-Z]+(?:_[A-Z]+)*/g) ?? []);
    // `httpError` makes a code of the word.
    const words = sources.flatMap((source) =>
      Array.from(source.matchAll(/error: '([a-z-]+)'/g), ([, word = '']) => word),
    );
    const made = words.filter((word) => word !== 'internal').map((word) => codeOf(word));
    const stated = errors.map(([code = '']) => codeIn(code)[0] ?? '');
    assert.deepEqual(sorted(stated.filter((code) => code !== '')), sorted([...literal, ...made]));
  });

  it('pairs each error code with the same word in JSON', () => {
    const answered = errors.filter(({ length }) => length === 5);
    const wrong = answered.filter(([code = '', word = '']) => {
      const [written] = codeIn(word);
      return written !== undefined && codeIn(code).some((one) => one !== codeOf(written));
    });
    assert.ok(answered.length > 30, `${answered.length} rows`);
    assert.deepEqual(wrong, []);
  });

  it('has a cause and a cure for each', () => {
    const without = errors.filter((row) => row.slice(-2).some((cell) => cell.trim().length < 10));
    assert.deepEqual(without, []);
  });
});

describe('the pages of the repository', () => {
  const pages = [
    ...readdirSync(root).filter((name) => name.endsWith('.md')),
    ...['docs', 'docs/guides', 'docs/recipes'].flatMap((directory) =>
      readdirSync(join(root, directory)).flatMap((name) =>
        name.endsWith('.md') ? [`${directory}/${name}`] : [],
      ),
    ),
    'bench/README.md',
    'examples/README.md',
    ...readdirSync(join(root, 'examples')).flatMap((name) => {
      const page = `examples/${name}/README.md`;
      return existsSync(join(root, page)) ? [page] : [];
    }),
  ];
  const headings = (page: string): string[] =>
    Array.from(proseOf(page).matchAll(/^#+ (.+)$/gm), ([, text = '']) => anchorOf(text));

  it('link only to files and headings that exist', () => {
    const links = pages.flatMap((page) =>
      Array.from(proseOf(page).matchAll(/\]\(([^)\s]+)\)/g), ([, target = '']) => ({ page, target })),
    );
    const broken = links.filter(({ page, target }) => {
      if (/^https?:/.test(target)) return false;
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? page : join(dirname(page), path);
      if (!existsSync(join(root, file))) return true;
      return anchor !== undefined && !headings(file).includes(anchor);
    });
    assert.ok(links.length > 50, `${links.length} links`);
    assert.deepEqual(broken, []);
  });
});

const codeOf = (word: string): string => `ERR_SSE_${word.toUpperCase().replaceAll('-', '_')}`;

/** The anchor that GitHub gives a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^a-z0-9 _-]/g, '')
    .replaceAll(' ', '-');
}

// ── who pays ──────────────────────────────────────────────────────────────────────────────────────────────

interface Bound {
  readonly what: string;
  /** `option` in `module` = its default; `undefined` where the bound is no number of the code. */
  readonly option: { readonly name: string; readonly module: string; readonly value: number } | undefined;
  readonly file: string;
  /** A part of the title of the test that shows the bound. */
  readonly title: string;
}

/** The rows of the tables under "Who pays". */
function boundsOf(page: string): Bound[] {
  const [, chapter = ''] = textOf(page).split(/^## Who pays$/m);
  const rows = (chapter.split(/^## /m)[0] ?? '').split('\n').filter((line) => /^\| (?!what)[^-]/.test(line));
  return rows.map((row) => {
    const [what = '', , option = '', , , test = ''] = row
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim());
    const [, name, module, value] = /^`(\w+)` in `([\w/-]+)` = (.+)$/.exec(option) ?? [];
    assert.ok(option.trim() === '' || value !== undefined, `${what}: no option in ${option}`);
    const [, file = '', title = ''] = /^([\w./-]+): `(.+)`$/.exec(test.trim()) ?? [];
    assert.ok(title !== '', `${what}: no test in ${test}`);
    return {
      what,
      option: value === undefined ? undefined : { name: name!, module: module!, value: quantity(value) },
      file,
      title,
    };
  });
}

const UNITS: Readonly<Record<string, number>> = { KiB: 1024, MiB: 1024 ** 2, ms: 1, s: 1000, min: 60_000 };

/** The number that a person writes as `1 MiB + 64 KiB` or `10,000`. */
function quantity(text: string): number {
  const parts = text.split(' + ').map((part) => {
    const [, digits = '', unit = ''] = /^([\d,]+)(?: (\w+))?$/.exec(part) ?? [];
    return Number(digits.replaceAll(',', '')) * (unit === '' ? 1 : (UNITS[unit] ?? NaN));
  });
  return parts.reduce((sum, part) => sum + part, 0);
}

/** Every number that a module gives a name: `name = 10_000`, `options.name ?? 64 * 1024`, `NAME = OTHER`. */
function numbersOf(module: string, name: string): number[] {
  const given = new RegExp(
    `\\b${name}(?:: \\w+)? (?:=|\\?\\?) ([A-Z_]+|[(]?[\\d_]+(?: [*+]{1,2} [\\d_]+)*[)]?(?: [*+]{1,2} [\\d_]+)*)`,
    'g',
  );
  return Array.from(textOf(`lib/${module}.ts`).matchAll(given)).flatMap(([, expression = '']) => {
    if (/^[A-Z_]+$/.test(expression)) return numbersOf(module, expression);
    const balanced = expression.startsWith('(') ? expression : expression.replace(/\).*$/, '');
    return [Number(new Function(`return ${balanced}`)())];
  });
}

describe('the account of who pays', () => {
  const bounds = boundsOf('docs/architecture.md');

  it('has a row for each thing that others can make a process hold or do', () => {
    assert.ok(bounds.length >= 40, `only ${bounds.length} rows`);
  });

  for (const { what, option, file, title } of bounds) {
    it(`is true of ${what}`, () => {
      if (option !== undefined) {
        const found = numbersOf(option.module, option.name);
        assert.ok(found.includes(option.value), `${option.name}: ${found.join(', ')} in ${option.module}.ts`);
      }
      const tests = textOf(`test/${file}.test.ts`);
      const titles = [...tests.matchAll(/\b(?:it|describe)\(\s*(['"`])((?:(?!\1).|\n)*)\1/g)].map(
        (match) => match[2],
      );
      assert.ok(
        titles.some((one) => one?.includes(title)),
        `test/${file}.test.ts has no test "${title}"`,
      );
    });
  }
});
