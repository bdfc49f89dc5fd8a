import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, it, type TestContext } from 'node:test';
import { main } from '../../lib/command/cli.ts';
import { createSseServer } from '../../lib/server.ts';
import { run } from '../helpers/command.ts';
import { cutAfter, open, seqOf, whole } from '../helpers/misbehaving.ts';
import { openServer } from '../helpers/server.ts';

async function started(t: TestContext, handler: Parameters<typeof openServer>[0]) {
  const server = await openServer(handler);
  t.after(() => server.close());
  return server;
}

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'sluice-'));
  t.after(() => rm(path, { recursive: true }));
  return path;
}

const id = (seq: number): string => `1795408776829004-${seq}`;
const frame = (seq: number): string => `id: ${id(seq)}\ndata: ${seq}\n\n`;
const end = 'event: sluice:end\ndata: {}\n\n';

/** The streams of a command, for tests that read its output while it runs. */
function connected(stdout = new PassThrough(), signal = new AbortController().signal) {
  const stderr = new PassThrough();
  return { io: { stdin: new PassThrough(), stdout, stderr, env: {}, signal }, stdout, stderr };
}

describe('sluice tail', () => {
  it('prints the data of each event until the stream ends', async (t) => {
    const { url } = await started(t, (_, res) =>
      whole(res, `data: a\ndata: b\n\nevent: x\ndata: c\n\n${end}`),
    );
    assert.deepEqual(await run('tail', [url]), { code: 0, stdout: 'a\nb\nc\n', stderr: '' });
  });

  it('reports faults after which it goes on: an id that cannot be sent, an event that is too large', async (t) => {
    const { url } = await started(t, (_, res) =>
      whole(
        res,
        `${frame(1)}id: \x1b[31m\ndata: a\n\nid: ${id(3)}\ndata: ${'x'.repeat(1_200_000)}\n\n${end}`,
      ),
    );
    const { code, stdout, stderr } = await run('tail', [url]);
    assert.deepEqual([code, stdout], [0, '1\na\n']);
    const [unsendable, large, gap] = stderr.split('\n');
    assert.match(
      unsendable!,
      /^sluice tail: an id of the server cannot be a position: .* got "\\u001b\[31m"$/,
    );
    assert.match(
      large!,
      /^sluice tail: a line of the event stream is longer than 1114112 bytes \(`maxLineBytes`\)/,
    );
    assert.equal(gap, `sluice tail: events were missed: too-large, from ${id(1)} to ${id(3)}`);
  });

  it('reports a position that the server does not take, and goes on without it', async (t) => {
    const { url } = await started(t, (req, res) => {
      if (req.headers['last-event-id'] === undefined) whole(res, frame(5) + end);
      else res.writeHead(431).end();
    });
    const { code, stdout, stderr } = await run('tail', ['--last-event-id', id(1), url]);
    assert.deepEqual([code, stdout], [0, '5\n']);
    assert.equal(
      stderr,
      `sluice tail: the server does not take the position "${id(1)}"\n` +
        `sluice tail: events were missed: unsendable, from ${id(1)} to an unknown place\n`,
    );
  });

  it('takes an address without http://', async (t) => {
    const { url } = await started(t, (_, res) => whole(res, frame(1) + end));
    assert.equal((await run('tail', [url.replace('http://', '')])).stdout, '1\n');
  });

  it('reconnects after a cut, resumes, and reports it unless --quiet is given', async (t) => {
    for (const quiet of [false, true]) {
      const { url, requests } = await started(t, (_, res, attempt) => {
        if (attempt === 1) cutAfter(res, frame(1));
        else whole(res, frame(2) + end);
      });
      const { code, stdout, stderr } = await run('tail', quiet ? ['-q', url] : [url]);
      assert.deepEqual([code, stdout], [0, '1\n2\n']);
      assert.match(stderr, quiet ? /^$/ : /^sluice tail: .+; trying again in \d+\.\d s\n$/);
      assert.equal(requests[1]!.headers['last-event-id'], id(1));
    }
  });

  it('sends topics, headers, the last event ID, a method and a body', async (t) => {
    let body = '';
    const { url, requests } = await started(t, (req, res) => {
      req.setEncoding('utf8').on('data', (text) => {
        body += text;
      });
      req.on('end', () => whole(res, frame(1)));
    });
    const argv = [
      '--topic',
      'a',
      '--topic=b c',
      '-H',
      'X-One: 1',
      '--header',
      'x-two:2',
      '--last-event-id',
      id(0),
    ];
    const { code, stdout } = await run('tail', [...argv, '-X', 'put', '-d', '{"ask":1}', `${url}events?x=1`]);
    assert.deepEqual([code, stdout, body], [0, '1\n', '{"ask":1}']);
    const { method, headers, url: path } = requests[0]!;
    assert.equal(method, 'PUT');
    assert.equal(path, '/events?x=1&topic=a&topic=b+c');
    assert.deepEqual(
      [headers['x-one'], headers['x-two'], headers['last-event-id'], headers['content-type']],
      ['1', '2', id(0), 'application/json'],
    );
  });

  it('reads a body from a file or from stdin', async (t) => {
    const path = join(await folder(t), 'body');
    await writeFile(path, 'from a file');
    const bodies: string[] = [];
    const { url } = await started(t, (req, res) => {
      req.setEncoding('utf8').once('data', (text) => {
        bodies.push(text);
        whole(res, end);
      });
    });
    await run('tail', ['-d', `@${path}`, url]);
    await run('tail', ['-d', '@-', url], { stdin: 'from stdin' });
    assert.deepEqual(bodies, ['from a file', 'from stdin']);
    const { code, stderr } = await run('tail', ['-d', '@/no/such/file', url]);
    assert.equal(code, 1);
    assert.match(stderr, /^sluice tail: --data @\/no\/such\/file cannot be read: ENOENT.*\n$/);
  });

  it('sends a POST again only with --retry', async (t) => {
    const { url, requests } = await started(t, (req, res, attempt) => {
      req.resume();
      if (attempt < 3) cutAfter(res, frame(attempt));
      else whole(res, frame(3) + end);
    });
    assert.equal((await run('tail', ['-d', 'x', url])).code, 1);
    assert.equal(requests.length, 1);
    assert.equal((await run('tail', ['-q', '--retry', '-d', 'x', url])).stdout, '2\n3\n');
  });

  it('prints JSON lines, with every event’s type and id', async (t) => {
    const began = Date.now();
    const { url } = await started(t, (_, res) =>
      whole(res, `id: 1\nevent: x\ndata: a\ndata: b\n\ndata: c\n\n${end}`),
    );
    const { stdout } = await run('tail', ['--json', url]);
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      lines.map(({ event, data, id }) => ({ event, data, id })),
      [
        { event: 'x', data: 'a\nb', id: '1' },
        { event: 'message', data: 'c', id: undefined },
      ],
    );
    for (const { time } of lines) {
      assert.ok(Date.parse(time) >= began && Date.parse(time) <= Date.now(), time);
    }
  });

  it('prints times of arrival and the gaps between them', async (t) => {
    const { url } = await started(t, (_, res) => whole(res, frame(1) + frame(2) + end));
    const { stdout } = await run('tail', ['--timestamps', '--gaps', url]);
    assert.match(stdout, /^(\d{4}-\d\d-\d\dT[\d:.]+Z \+\d+ms \d\n){2}$/);
  });

  it('prints only the types that --event lists', async (t) => {
    const { url } = await started(t, (_, res) =>
      whole(res, `event: a\ndata: 1\n\nevent: b\ndata: 2\n\ndata: 3\n\n${end}`),
    );
    assert.equal((await run('tail', ['--event', 'b', '--event', 'message', url])).stdout, '2\n3\n');
  });

  it('stops after --max events, and after an event of type --until', async (t) => {
    const { url } = await started(t, (_, res) => open(res, `${frame(1)}event: done\ndata: x\n\n${frame(2)}`));
    assert.deepEqual(await run('tail', ['--max', '1', url]), { code: 0, stdout: '1\n', stderr: '' });
    assert.deepEqual(await run('tail', ['--until', 'done', url]), { code: 0, stdout: '1\nx\n', stderr: '' });
    assert.deepEqual(await run('tail', ['--event', 'message', '--until', 'done', url]), {
      code: 0,
      stdout: '1\n',
      stderr: '',
    });
  });

  it('exits with 3 when the stream ends before --max or --until is reached', async (t) => {
    const { url } = await started(t, (_, res) => whole(res, frame(1) + end));
    assert.equal((await run('tail', ['--max', '2', url])).code, 3);
    assert.equal((await run('tail', ['--until', 'done', url])).code, 3);
  });

  it('keeps its position in a file, up to the last printed event', async (t) => {
    const state = join(await folder(t), 'state.json');
    const { url } = await started(t, (req, res) => {
      const from = seqOf(req.headers['last-event-id']);
      open(res, frame(from + 1) + frame(from + 2) + frame(from + 3));
    });
    assert.equal((await run('tail', ['--max', '2', '--state', state, url])).stdout, '1\n2\n');
    assert.equal((await run('tail', ['--max', '2', '--state', state, url])).stdout, '3\n4\n');
  });

  it('keeps one position for each stream, in a file without secrets that only its owner can read', async (t) => {
    const state = join(await folder(t), 'state.json');
    await writeFile(state, '{}', { mode: 0o644 });
    const { url } = await started(t, (req, res) => {
      const from = seqOf(req.headers['last-event-id']);
      open(res, frame(from + 1) + frame(from + 2));
    });
    const read = async (address: string, argv: string[] = []) =>
      (await run('tail', [...argv, '--max', '1', '--state', state, address])).stdout;
    const private1 = `${url.replace('//', '//user:pass-word@')}?access=secret-1`;
    assert.equal(await read(`${url}?topic=a&ticket=secret-3`, ['--topic', 'b']), '1\n');
    assert.equal(await read(`${url}?topic=a&ticket=secret-4`, ['--topic', 'b']), '2\n');
    assert.equal(await read(private1), '1\n');
    assert.equal(await read(private1), '2\n');
    assert.equal(await read(private1.replace('secret-1', 'secret-2')), '1\n');
    assert.equal(await read(private1.replace('pass-word', 'other')), '1\n');
    assert.equal(await read(url), '1\n');
    assert.equal(await read(url.replace('//', '//user:pass-word@')), '1\n');
    const text = await readFile(state, 'utf8');
    assert.doesNotMatch(text, /secret|pass-word|user/);
    assert.equal(JSON.parse(text)[`${url}?topic=a&topic=b`], id(2));
    if (process.platform !== 'win32') assert.equal((await stat(state)).mode & 0o777, 0o600);
  });

  it('finds its position whatever the order of the topics, and says where it has only those of other streams', async (t) => {
    const state = join(await folder(t), 'state.json');
    const { url } = await started(t, (req, res) => open(res, frame(seqOf(req.headers['last-event-id']) + 1)));
    const read = (...argv: string[]) => run('tail', [...argv, '--max', '1', '--state', state, url]);
    assert.deepEqual(await read('--topic', 'b', '--topic', 'a'), { code: 0, stdout: '1\n', stderr: '' });
    assert.deepEqual(await read('--topic', 'a', '--topic', 'b'), { code: 0, stdout: '2\n', stderr: '' });
    const stderr = `sluice tail: ${state} has positions of other streams, but none of ${url}?topic=a\n`;
    assert.deepEqual(await read('--topic', 'a'), { code: 0, stdout: '1\n', stderr });
    assert.deepEqual(await read('--topic', 'a'), { code: 0, stdout: '2\n', stderr: '' });
    assert.deepEqual(await read('--topic', 'c', '--quiet'), { code: 0, stdout: '1\n', stderr: '' });
  });

  it('sends a token, from an option, from a file, or where neither a header gives one from the environment', async (t) => {
    const file = join(await folder(t), 'token');
    await writeFile(file, 'secret\n');
    const { url, requests } = await started(t, (_, res) => whole(res, end));
    await run('tail', ['--token', 'secret', url]);
    await run('tail', ['--token-file', file, url]);
    const env = { SLUICE_TOKEN: 'secret' };
    await run('tail', [url], { env });
    await run('tail', ['-H', 'Authorization: Basic x', url], { env });
    await run('tail', ['--token', 'other', url], { env });
    for (const token of ['', 'a b']) {
      const { code, stderr } = await run('tail', [url], { env: { SLUICE_TOKEN: token } });
      assert.equal(code, 2);
      assert.match(stderr, /^sluice tail: SLUICE_TOKEN must be one word of printable ASCII; /);
    }
    assert.deepEqual(
      requests.map(({ headers }) => headers.authorization),
      ['Bearer secret', 'Bearer secret', 'Bearer secret', 'Basic x', 'Bearer other'],
    );
  });

  it('reports a gap on stderr, and prints it as an event only among JSON', async (t) => {
    const lost = { reason: 'evicted', from: id(1), to: id(5), topics: ['a', 'b'] };
    const gap = `event: sluice:gap\nid: ${id(5)}\ndata: ${JSON.stringify(lost)}\n\n`;
    const { url } = await started(t, (_, res) => whole(res, gap + frame(6) + end));
    const plain = await run('tail', [url]);
    assert.deepEqual(
      [plain.stdout, plain.stderr],
      ['6\n', `sluice tail: events of a, b were missed: evicted, from ${id(1)} to ${id(5)}\n`],
    );
    assert.match(
      (await run('tail', ['--json', url])).stdout,
      /^\{"event":"sluice:gap".*\n\{"event":"message","data":"6"/,
    );
  });

  it('reports a failure of the source on stderr, and does not count it', async (t) => {
    const failure = `event: sluice:error\ndata: {"message":"no\\u001b model"}\n\n`;
    const { url } = await started(t, (_, res) => whole(res, failure + frame(6) + end));
    assert.deepEqual(await run('tail', ['--max', '1', url]), {
      code: 0,
      stdout: '6\n',
      stderr: 'sluice tail: the server has failed to go on: no  model\n',
    });
    const { stdout } = await run('tail', ['--json', url]);
    assert.match(stdout, /^\{"event":"sluice:error".*\n\{"event":"message","data":"6"/);
  });

  it('records what can be published again, across a gap', async (t) => {
    const sse = createSseServer({ hub: { history: { maxEvents: 3 } } });
    const url = await sse.listen(0);
    t.after(() => {
      sse.server.closeAllConnections();
      sse.server.close();
    });
    const record = join(await folder(t), 'record');
    const { stdout } = await run('publish', ['--ids', url, 'a'], { stdin: '1\n2\n3\n4\n5\n' });
    const [first = ''] = stdout.split('\n');
    const events = `${url}/events`;
    const argv = ['--last-event-id', first, '--record', record, '--max', '3', '--topic', 'a', events];
    const tail = await run('tail', argv);
    assert.deepEqual([tail.code, tail.stdout], [0, '3\n4\n5\n']);
    assert.match(tail.stderr, /^sluice tail: events of a were missed: evicted, /);
    const stdin = await readFile(record, 'utf8');
    assert.deepEqual(await run('publish', ['--ndjson', url, 'b'], { stdin }), {
      code: 0,
      stdout: '',
      stderr: '',
    });
    const again = await run('tail', ['--from', 'earliest', '--max', '3', '--topic', 'b', events]);
    assert.equal(again.stdout, '3\n4\n5\n');
  });

  it('reports a gap of which the server says nothing', async (t) => {
    const gap = `event: sluice:gap\nid: ${id(5)}\ndata: \x1b[2J\n\n`;
    const { url } = await started(t, (_, res) => whole(res, gap + end));
    assert.equal(
      (await run('tail', [url])).stderr,
      `sluice tail: events were missed: unknown, from an unreadable id to ${id(5)}\n`,
    );
  });

  it('appends every event to a file as JSON lines', async (t) => {
    const path = join(await folder(t), 'record');
    const { url } = await started(t, (_, res) => whole(res, `${frame(1)}event: x\ndata: y\n\n${end}`));
    await run('tail', ['--record', path, '--event', 'x', url]);
    await run('tail', ['--record', path, url]);
    const lines = (await readFile(path, 'utf8'))
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      lines.map(({ event, data }) => `${event} ${data}`),
      ['message 1', 'x y', 'message 1', 'x y'],
    );
    const { code, stderr } = await run('tail', ['--record', '/no/such/folder/file', url]);
    assert.equal(code, 1);
    assert.match(stderr, /^sluice tail: --record \/no\/such\/folder\/file: ENOENT.*\n$/);
  });

  it('escapes control characters on a terminal, and passes them on to a pipe', async (t) => {
    const { url } = await started(t, (_, res) => whole(res, `data: \x1b]0;title\x07é\ndata:\tb\n\n${end}`));
    assert.equal((await run('tail', [url], { isTTY: true })).stdout, '\\x1b]0;title\\x07é\n\tb\n');
    assert.equal((await run('tail', [url])).stdout, '\x1b]0;title\x07é\n\tb\n');
  });

  it('indents and colours JSON on a terminal, and passes it on as it is to a pipe', async (t) => {
    const { url } = await started(t, (_, res) => whole(res, `data: {"price": [7.50,"\x9b2J"]}\n\n${end}`));
    const on = async (env: Record<string, string>) => (await run('tail', [url], { isTTY: true, env })).stdout;
    const indented = '{\n  "price": [\n    7.50,\n    "\\u009b2J"\n  ]\n}\n';
    assert.equal(await on({ NO_COLOR: '1' }), indented);
    const colored = await on({});
    assert.match(colored, /\x1b\[33m7\.50\x1b\[0m/);
    assert.equal(colored.replaceAll(/\x1b\[\d+m/g, ''), indented);
    assert.equal((await run('tail', [url])).stdout, '{"price": [7.50,"\x9b2J"]}\n');
  });

  it('colours nothing in a pipe, whatever the environment says', async (t) => {
    const { url } = await started(t, (_, res) => whole(res, `data: {"a":1}\n\n${end}`));
    const { stdout } = await run('tail', ['--gaps', url], { env: { FORCE_COLOR: '1' } });
    assert.equal(stdout, '+0ms {"a":1}\n');
  });

  it('indents --json on a terminal, and prints one line in a pipe', async (t) => {
    const { url } = await started(t, (_, res) => whole(res, `${frame(1)}${end}`));
    const { stdout } = await run('tail', ['--json', url], { isTTY: true, env: { NO_COLOR: '1' } });
    assert.match(stdout, /^\{\n {2}"event": "message",\n {2}"data": "1",\n {2}"id": /);
    const piped = await run('tail', ['--json', url], { env: { FORCE_COLOR: '1' } });
    assert.match(piped.stdout, /^\{"event":"message","data":"1",.*\}\n$/);
  });

  it('says why the server refuses, in whichever form it says that', async (t) => {
    for (const [body, reason] of [
      ['{"error":"unauthorized","message":"A token, please."}', ': A token, please.'],
      ['{"error":"unauthorized"}', ': unauthorized'],
      ['{"type":"about:blank","title":"Forbidden","detail":"Members only."}', ': Members only.'],
      ['{"title":"Forbidden"}', ': Forbidden'],
      ['{"error":{"message":"No such model."}}', ': No such model.'],
      ['{"message":7,"error":null}', ''],
      ['["message"]', ''],
    ] as const) {
      const { url } = await started(t, (_, res) =>
        res.writeHead(403, { 'content-type': 'application/problem+json' }).end(body),
      );
      const tail = await run('tail', [url]);
      assert.deepEqual([tail.code, tail.stderr], [1, `sluice tail: the server answered 403${reason}\n`]);
      const publish = await run('publish', [url, 'n'], { stdin: 'a\n' });
      const before = `the server answered 403${reason}`.replace(/\.$/, '');
      assert.equal(publish.stderr, `sluice publish: ${before}; 0 published before\n`);
    }
  });

  it('says on a terminal that it is connected again', async (t) => {
    const { url } = await started(t, (_, res, attempt) => {
      if (attempt === 1) cutAfter(res, frame(1));
      else whole(res, frame(2) + end);
    });
    const { stderr } = await run('tail', [url], { isTTY: true });
    assert.match(stderr, /^sluice tail: .+; trying again in \d+\.\d s\nsluice tail: connected again\n$/);
  });

  it('begins with the last events or the earliest, and asks for that beside the last event ID', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) cutAfter(res, frame(1));
      else whole(res, frame(2) + end);
    });
    assert.equal((await run('tail', ['-n', '10', '-q', `${url}events?topic=a`])).stdout, '1\n2\n');
    await run('tail', ['--from', 'earliest', url]);
    assert.deepEqual(
      requests.map((request) => [request.url, request.headers['last-event-id']]),
      [
        ['/events?topic=a&last=10', undefined],
        ['/events?topic=a&last=10', id(1)],
        ['/?from=earliest', undefined],
      ],
    );
  });

  it('keeps its position under the same key wherever it was asked to begin', async (t) => {
    const state = join(await folder(t), 'state');
    const { url, requests } = await started(t, (_, res, attempt) => whole(res, frame(attempt) + end));
    await run('tail', ['--state', state, '--last', '10', url]);
    await run('tail', ['--state', state, '--from', 'earliest', url]);
    assert.equal(requests[1]!.headers['last-event-id'], id(1));
  });

  for (const [argv, message] of [
    [['-n', '1', '--from', 'earliest'], '--last and --from exclude each other'],
    [['-n', '1', '--last-event-id', '1-1'], '--last and --last-event-id exclude each other'],
    [['--from', 'now'], '--from must be earliest, got "now"'],
    [['-n', 'all'], '--last must be a whole number from 0 to 999999999, got "all"'],
  ] as const) {
    it(`refuses ${argv.join(' ')}`, async () => {
      const { code, stderr } = await run('tail', [...argv, 'http://127.0.0.1:9']);
      assert.deepEqual([code, stderr], [2, `sluice tail: ${message}; see sluice tail --help\n`]);
    });
  }

  it('escapes every control character in JSON, which stays the same JSON', async (t) => {
    const { url } = await started(t, (_, res) => whole(res, `data: \x1b[2J\x9b2J\x7f\n\n${end}`));
    const { stdout } = await run('tail', ['--json', url]);
    assert.doesNotMatch(stdout, /[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
    assert.equal(JSON.parse(stdout).data, '\x1b[2J\x9b2J\x7f');
  });

  it('escapes what a gap carries on stderr', async (t) => {
    const gap = `event: sluice:gap\nid: ${id(5)}\ndata: {"reason":"\\u009b2J\\nx"}\n\n`;
    const { url } = await started(t, (_, res) => whole(res, gap + end));
    assert.match((await run('tail', [url])).stderr, /^sluice tail: events were missed: {2}2J x, from .*\n$/);
  });

  it('shortens what a gap carries, and reports a million spaces as fast as anything else', {
    timeout: 60_000,
  }, async (t) => {
    const spaces = ' '.repeat(300_000);
    const topics = Array.from({ length: 100 }, (_, n) => `t${n}${'x'.repeat(300)}`);
    const lost = { reason: `a${spaces}${spaces}b`, from: `c${spaces}d`, to: '', topics };
    const gap = `event: sluice:gap\ndata: ${JSON.stringify(lost)}\n\n`;
    const { url } = await started(t, (_, res) => whole(res, gap + end));
    const { code, stderr } = await run('tail', [url]);
    assert.equal(code, 0);
    assert.match(stderr, /^sluice tail: events of t0x+, .* 95 more topics were missed: a +, from c +to an /);
    assert.ok(stderr.length < 3000, String(stderr.length));
  });

  it('exits with 1 when the file of --record is on a full disk', {
    skip: process.platform !== 'linux',
  }, async (t) => {
    const { url } = await started(t, (_, res) => whole(res, frame(1) + end));
    const { code, stderr } = await run('tail', ['--record', '/dev/full', url]);
    assert.equal(code, 1);
    assert.match(stderr, /^sluice tail: --record \/dev\/full: ENOSPC.*\n$/);
  });

  it('stores no position of an event that it could not record', {
    skip: process.platform !== 'linux',
  }, async (t) => {
    const state = join(await folder(t), 'state');
    const { url } = await started(t, (_, res) => whole(res, frame(1) + frame(2) + end));
    const { code } = await run('tail', ['--state', state, '--record', '/dev/full', url]);
    assert.equal(code, 1);
    await assert.rejects(readFile(state), { code: 'ENOENT' });
  });

  it('exits with 0 and says nothing when the reader of its output is gone', async (t) => {
    const { url } = await started(t, (_, res) => {
      open(res);
      const timer = setInterval(() => res.write(frame(1)), 2);
      res.on('close', () => clearInterval(timer));
    });
    const { io, stdout, stderr } = connected();
    const ended = main(['tail', url], io, '0.0.0');
    stdout.once('data', () => stdout.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' })));
    assert.equal(await ended, 0);
    assert.equal(stderr.read(), null);
  });

  it('exits with 3 when the reader of its output is gone before its work is done', async (t) => {
    const { url } = await started(t, (_, res) => {
      open(res);
      const timer = setInterval(() => res.write(frame(1)), 2);
      res.on('close', () => clearInterval(timer));
    });
    const record = join(await folder(t), 'record');
    for (const argv of [
      ['--max', '1000000'],
      ['--until', 'done'],
      ['--record', record],
    ]) {
      const { io, stdout, stderr } = connected();
      const ended = main(['tail', ...argv, url], io, '0.0.0');
      stdout.once('data', () => stdout.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' })));
      assert.equal(await ended, 3, argv[0]);
      assert.equal(stderr.read(), null);
    }
    assert.match(await readFile(record, 'utf8'), /^(\{.*"data":"1"\}\n)+$/);
  });

  it('exits with 1 when the reader of its output is gone and what it recorded cannot be kept', {
    skip: process.platform !== 'linux',
  }, async (t) => {
    const { url } = await started(t, (_, res) => open(res, frame(1)));
    const { io, stdout, stderr } = connected();
    const ended = main(['tail', '--record', '/dev/full', url], io, '0.0.0');
    stdout.once('data', () => stdout.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' })));
    assert.equal(await ended, 1);
    assert.match(String(stderr.read()), /^sluice tail: --record \/dev\/full: ENOSPC/);
  });

  it('exits with 1 where the last of its output cannot be written', async (t) => {
    const { url } = await started(t, (_, res) => open(res, frame(1) + frame(2)));
    const { io, stdout, stderr } = connected();
    // Takes the event, and fails later, as the write of a file does.
    stdout._write = (_chunk, _encoding, done) => setTimeout(done, 20, new Error('no space'));
    assert.equal(await main(['tail', '--max', '1', url], io, '0.0.0'), 1);
    assert.equal(String(stderr.read()), 'sluice tail: no space\n');
  });

  it('waits for a slow reader, and can be interrupted meanwhile', async (t) => {
    const { url } = await started(t, (_, res) => open(res, frame(1).repeat(5000)));
    const controller = new AbortController();
    const { io, stdout } = connected(new PassThrough({ highWaterMark: 16 }), controller.signal);
    const ended = main(['tail', url], io, '0.0.0');
    while (stdout.readableLength === 0) await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.ok(stdout.readableLength + stdout.writableLength < 100);
    controller.abort();
    assert.equal(await ended, 130);
  });

  it('exits with 130 when it is interrupted while it waits for events', async (t) => {
    const controller = new AbortController();
    const { url } = await started(t, (_, res) => {
      open(res);
      setImmediate(() => controller.abort());
    });
    assert.deepEqual(await run('tail', [url], { signal: controller.signal }), {
      code: 130,
      stdout: '',
      stderr: '',
    });
  });

  it('exits with 130 when it is interrupted while it reads a body from stdin', async () => {
    const controller = new AbortController();
    const stdin = new PassThrough();
    stdin.write('{"a":');
    const ended = run('tail', ['-d', '@-', 'http://127.0.0.1:1'], { stdin, signal: controller.signal });
    while (stdin.readableLength > 0) await new Promise((resolve) => setImmediate(resolve));
    controller.abort();
    assert.deepEqual(await ended, { code: 130, stdout: '', stderr: '' });
    assert.ok(stdin.destroyed);
  });

  it('exits with 1 and one line when the server refuses', async (t) => {
    const { url } = await started(t, (_, res) => res.writeHead(404).end());
    assert.deepEqual(await run('tail', [url]), {
      code: 1,
      stdout: '',
      stderr: 'sluice tail: the server answered 404\n',
    });
  });

  it('shows the reason of the server on one line, without control characters', async (t) => {
    const message = `\u001b[2JThe topic "a b"\nis\u009b malformed. ${'x'.repeat(5000)}`;
    for (const status of [400, 401]) {
      const { url } = await started(t, (_, res) =>
        res
          .writeHead(status, { 'content-type': 'application/json' })
          .end(JSON.stringify({ error: 'malformed-topic', message })),
      );
      const { code, stderr } = await run('tail', [url]);
      assert.equal(code, 1);
      assert.match(
        stderr,
        new RegExp(`^sluice tail: the server answered ${status}: +\\[2JThe topic "a b" is`),
      );
      assert.doesNotMatch(stderr, /[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
      assert.ok(stderr.length < 400, stderr);
    }
  });

  it('prints its help on stdout', async () => {
    const { code, stdout } = await run('tail', ['--help']);
    assert.equal(code, 0);
    assert.match(stdout, /^Usage: sluice tail/);
  });

  for (const [argv, message] of [
    [[], 'expected one URL, got none'],
    [['a', 'b'], 'expected one URL, got 2'],
    [['ftp://x/'], 'expected an http or https URL, got ftp://x/'],
    [['http://['], 'expected an http or https URL, got http://['],
    [['--what', 'x'], 'unknown option "--what"'],
    [['--max', '0', 'x'], '--max must be a whole number ≥ 1, got "0"'],
    [['--max', 'many', 'x'], '--max must be a whole number ≥ 1, got "many"'],
    [['--max'], '--max needs a value'],
    [['--json=yes', 'x'], '--json takes no value, got "yes"'],
    [['-X', 'G T', 'x'], '--request must be a method such as POST, got "G T"'],
    [['-X', '', 'x'], '--request must be a method such as POST, got ""'],
    [
      ['--last-event-id', '7\n8', 'x'],
      '--last-event-id must have at most 1024 bytes, no control characters and no half surrogate pair, got "7\\n8"',
    ],
    [['-H', 'no colon', 'x'], `--header must be 'NAME: VALUE', got "no colon"`],
    [['-H', 'a: b\r\nc: d', 'x'], `--header must be 'NAME: VALUE', got "a: b\\r\\nc: d"`],
  ] as const) {
    it(`exits with 2 and one line for ${JSON.stringify(argv)}`, async () => {
      assert.deepEqual(await run('tail', argv), {
        code: 2,
        stdout: '',
        stderr: `sluice tail: ${message}; see sluice tail --help\n`,
      });
    });
  }
});
