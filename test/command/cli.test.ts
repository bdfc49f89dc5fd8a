import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  closeSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { get, type IncomingMessage } from 'node:http';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { run } from '../helpers/command.ts';
import { freePort } from '../helpers/free-port.ts';
import { Reader } from '../helpers/reader.ts';

const bin = fileURLToPath(new URL('../../lib/command/bin.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'sluice-cli-'));
const running = new Set<ChildProcessWithoutNullStreams>();
afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
});
after(() => rmSync(folder, { recursive: true }));

interface Run {
  readonly child: ChildProcessWithoutNullStreams;
  readonly stdout: () => string;
  readonly stderr: () => string;
  readonly code: Promise<number | null>;
}

function sluice(argv: readonly string[], env: Record<string, string> = {}): Run {
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), bin, ...argv], {
    cwd: folder,
    env: { ...process.env, ...env },
  });
  running.add(child);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  child.stdin.on('error', () => {});
  const code = once(child, 'close').then(([exitCode]) => {
    running.delete(child);
    return exitCode as number | null;
  });
  return { child, stdout: () => stdout, stderr: () => stderr, code };
}

/** A running server. Resolves when it accepts connections. */
async function serve(
  argv: readonly string[],
  env: Record<string, string> = {},
): Promise<Run & { url: string }> {
  const started = sluice(['serve', '--port', '0', ...argv], env);
  while (!started.stdout().includes('\n')) {
    const ended = await Promise.race([started.code, once(started.child.stdout, 'data')]);
    if (typeof ended === 'number') throw new Error(`it ended with ${ended}: ${started.stderr()}`);
  }
  const [, url = ''] = /^listening on (http:\/\/\S+)\n$/.exec(started.stdout()) ?? [];
  assert.notEqual(url, '', started.stdout());
  return { ...started, url };
}

async function follow(url: string, topic: string): Promise<Reader> {
  const reader = await Reader.open(`${url}/events?topic=${topic}`);
  return reader.until(({ frames }) => frames.length > 0);
}

describe('sluice serve', () => {
  it('prints where it listens, serves, and logs JSON lines', async () => {
    const { url, stderr } = await serve([]);
    const reader = await follow(url, 'a');
    await fetch(`${url}/topics/a`, { method: 'POST', body: 'hello' });
    await reader.until(({ data }) => data.includes('hello'));
    reader.close();
    while (!stderr().includes('stream-closed')) await new Promise((resolve) => setTimeout(resolve, 10));
    for (const line of stderr().trim().split('\n')) assert.equal(typeof JSON.parse(line).time, 'string');
  });

  it('listens on the port of PORT unless --port is given, and refuses one that is none', async () => {
    const port = await freePort();
    const { child, stdout } = sluice(['serve'], { PORT: String(port) });
    while (!stdout().includes('\n')) await once(child.stdout, 'data');
    assert.equal(stdout(), `listening on http://127.0.0.1:${port}\n`);
    await serve([], { PORT: 'x' });
    const { code, stderr } = await run('serve', [], { env: { PORT: 'tcp://10.0.0.1:80' } });
    assert.equal(code, 2);
    assert.match(stderr, /^sluice serve: PORT must be a whole number from 0 to 65535, got "tcp:/);
  });

  it('logs lines for people with --log-format text, from the level of --log-level on', async () => {
    const { url, child, code, stderr } = await serve(['--log-format', 'text', '--log-level', 'warn']);
    (await follow(url, 'a')).close();
    await fetch(`${url}/topics/a%20b`, {
      method: 'POST',
      body: 'x',
      headers: { origin: 'https://a.example' },
    });
    child.kill('SIGTERM');
    assert.equal(await code, 0);
    assert.match(stderr(), /^\d\d:\d\d:\d\d warn {2}refused reason=[a-z-]+ status=\d+\n$/);
  });

  it('ends open streams with a retry, and exits with 0 on SIGTERM', async () => {
    const { url, child, code } = await serve([]);
    const reader = await follow(url, 'a');
    child.kill('SIGTERM');
    await reader.over;
    assert.equal(reader.retries.length, 2);
    assert.ok(reader.response.complete, 'the response was cut');
    assert.equal(await code, 0);
  });

  it('exits with 0 at its deadline although one client reads nothing and another sends half a request', async () => {
    const { url, child, code } = await serve(['--deadline', '1s']);
    const reader = await follow(url, 'a');
    reader.response.pause();
    const body = 'x'.repeat(900_000);
    for (let i = 0; i < 12; i++) await fetch(`${url}/topics/a`, { method: 'POST', body });
    const { port, hostname } = new URL(url);
    const silent = connect(Number(port), hostname);
    silent.on('error', () => {});
    silent.write('GET / HTTP/1.1\r\n');
    await once(silent, 'connect');
    child.kill('SIGTERM');
    assert.equal(await code, 0);
    reader.close();
    silent.destroy();
  });

  it('answers to the names that --allow-host lists and to no others', async () => {
    const { url } = await serve(['--allow-host', 'events.example', '--allow-host', 'other.example:81']);
    const statusFor = async (host: string) => {
      const request = get(`${url}/position`, { agent: false, headers: { host } });
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      response.resume();
      return response.statusCode;
    };
    assert.equal(await statusFor('events.example'), 200);
    assert.equal(await statusFor('events.example:8081'), 200);
    assert.equal(await statusFor('other.example:81'), 200);
    assert.equal(await statusFor('other.example'), 421);
    assert.equal(await statusFor('localhost'), 421);
  });

  it('sends and announces heartbeats, and neither with --heartbeat off', async () => {
    const beating = await follow((await serve(['--heartbeat', '50ms'])).url, 'a');
    assert.equal(JSON.parse(beating.frame('sluice:ready').data).heartbeat.interval, 50);
    await beating.until(({ text }) => text.includes('\n:\n'));
    const silent = await follow((await serve(['--heartbeat', 'off'])).url, 'a');
    assert.equal(JSON.parse(silent.frame('sluice:ready').data).heartbeat, null);
    beating.close();
    silent.close();
  });

  it('ends its streams one after another over --window', async () => {
    const { url, child, code, stderr } = await serve(['--window', '1s']);
    const readers = await Promise.all(Array.from({ length: 20 }, () => follow(url, 'a')));
    child.kill('SIGTERM');
    // When the first has ended, others are still open.
    await Promise.race(readers.map((reader) => reader.over));
    assert.ok(readers.some(({ ended }) => !ended));
    await Promise.all(readers.map((reader) => reader.over));
    assert.equal(await code, 0);
    assert.match(stderr(), /"event":"stopped","ended":20,/);
  });

  it('publishes what is appended to a file, through truncation and rotation', async () => {
    const file = join(folder, 'app.log');
    writeFileSync(file, 'old\n');
    const { url } = await serve(['--tail', `${file}:log`, '--tail', file]);
    const readers = await Promise.all(['log', 'app.log'].map((topic) => follow(url, topic)));
    // Both inputs must have read one state of the file before it changes again.
    const areUpTo = (line: string) =>
      Promise.all(readers.map((reader) => reader.until(({ data }) => data.at(-1) === line)));
    appendFileSync(file, 'one\ntw');
    appendFileSync(file, 'o\n');
    await areUpTo('two');
    truncateSync(file);
    appendFileSync(file, 'three\n');
    await areUpTo('three');
    renameSync(file, `${file}.1`);
    writeFileSync(file, 'four\n');
    await areUpTo('four');
    for (const reader of readers) {
      assert.deepEqual(reader.data, ['one', 'two', 'three', 'four']);
      reader.close();
    }
  });

  it('publishes the lines of standard input, and ends the topic with them', async () => {
    const { url, child } = await serve(['--stdin', 'build']);
    const reader = await follow(url, 'build');
    child.stdin.end('compiling\nlinking\n');
    await reader.over;
    assert.deepEqual(reader.data, ['compiling', 'linking']);
    assert.equal(reader.frames.at(-1)?.event, 'sluice:end');
  });

  it('keeps the topic of standard input when it stops, and stops although the input stays open', async () => {
    const { url, child, code } = await serve(['--stdin', 'build', '--system']);
    const reader = await follow(url, 'build');
    child.stdin.write('compiling\n');
    await reader.until(({ data }) => data.length === 1);
    child.kill('SIGTERM');
    assert.equal(await code, 0);
    await reader.over;
    assert.equal(
      reader.frames.some(({ event }) => event === 'sluice:end'),
      false,
    );
  });

  it('publishes samples of this host', async () => {
    const { url } = await serve(['--system']);
    const reader = await follow(url, 'system');
    await reader.until(({ data }) => data.length === 1);
    const sample = JSON.parse(reader.data[0] as string);
    assert.equal(sample.server.connections, 1);
    assert.ok(sample.process.rssBytes > 0 && sample.host.memoryTotalBytes > 0);
    reader.close();
  });

  it('tells in /readyz and /metrics that an input is down, and stays ready', async () => {
    const file = join(folder, 'down.log');
    writeFileSync(file, '');
    const { url, stderr } = await serve(['--tail', `${file}:down`, '--system']);
    const ready = async () => {
      const response = await fetch(`${url}/readyz`);
      assert.equal(response.status, 200);
      return response.json();
    };
    const lines = async () => {
      const page = await (await fetch(`${url}/metrics`)).text();
      return page.split('\n').filter((line) => line.startsWith('sluice_input_'));
    };
    const reader = await follow(url, 'down');
    appendFileSync(file, 'one\n');
    await reader.until(({ data }) => data.length === 1);
    const status = 'ready';
    assert.deepEqual(await ready(), { status, inputs: { up: 2, down: 0, ended: 0 } });
    assert.equal((await fetch(`${url}/topics/down`, { method: 'DELETE' })).status, 204);
    appendFileSync(file, 'two\n');
    while (!stderr().includes('input-failed')) await new Promise((resolve) => setTimeout(resolve, 10));
    assert.deepEqual(await ready(), { status, inputs: { up: 1, down: 1, ended: 0 } });
    assert.deepEqual(await lines(), [
      `sluice_input_up{input="${file}",topic="down"} 0`,
      'sluice_input_up{input="system",topic="system"} 1',
      `sluice_input_skipped_total{input="${file}",topic="down"} 1`,
      'sluice_input_skipped_total{input="system",topic="system"} 0',
    ]);
  });

  it('accepts a token from the environment', async () => {
    const { url } = await serve([], { SLUICE_PUBLISH_TOKEN: 'secret' });
    const publish = (headers: Record<string, string>) =>
      fetch(`${url}/topics/a`, { method: 'POST', body: 'x', headers }).then(({ status }) => status);
    assert.equal(await publish({}), 401);
    assert.equal(await publish({ Authorization: 'Bearer secret' }), 200);
  });

  it('shows its metrics to the bearer of a token from a file', async () => {
    const file = join(folder, 'metrics-token');
    writeFileSync(file, 'secret\n');
    const { url } = await serve(['--metrics-token-file', file]);
    const read = (headers: Record<string, string>) =>
      fetch(`${url}/metrics`, { headers }).then(({ status }) => status);
    assert.equal(await read({}), 401);
    assert.equal(await read({ Authorization: 'Bearer secret' }), 200);
  });
});

describe('a fast source of sluice serve, read by one idle client', { timeout: 60_000 }, () => {
  const numbers = Array.from({ length: 100_000 }, (_, n) => String(n));
  const text = `${numbers.join('\n')}\n`;

  /** All of them, in order, and nothing that was lost. */
  async function getsAll(reader: Reader, expected: readonly string[]): Promise<void> {
    let seen = 0;
    const hasAll = ({ frames }: Reader) => {
      const isLost = frames.slice(seen).some(({ event }) => event === 'sluice:gap');
      seen = frames.length;
      return isLost || seen > expected.length;
    };
    await reader.until(hasAll);
    assert.deepEqual(
      reader.frames.filter(({ event }) => event === 'sluice:gap'),
      [],
    );
    assert.deepEqual(reader.data, expected);
    reader.close();
  }

  it('gets 100,000 lines that are appended to a file at once', async () => {
    const file = join(folder, 'fast.log');
    writeFileSync(file, '');
    const { url } = await serve(['--tail', `${file}:fast`]);
    const reader = await follow(url, 'fast');
    appendFileSync(file, text);
    await getsAll(reader, numbers);
  });

  it('gets 100,000 lines of standard input', async () => {
    const { url, child } = await serve(['--stdin', 'fast']);
    const reader = await follow(url, 'fast');
    child.stdin.end(text);
    await getsAll(reader, numbers);
  });

  it('gets them also where the history is short', async () => {
    const few = numbers.slice(0, 5000);
    const { url, child } = await serve(['--stdin', 'fast', '--history', '20', '--history-bytes', '4096']);
    const reader = await follow(url, 'fast');
    child.stdin.end(`${few.join('\n')}\n`);
    await getsAll(reader, few);
  });

  for (const [requests, bytes] of [
    [4, 1_000_000],
    [16, 1_000_000],
    [200, 60_000],
  ] as const) {
    it(`gets ${requests} batches of ${bytes} bytes that are posted at once`, async () => {
      const { url } = await serve([]);
      const reader = await follow(url, 'fast');
      const line = 'x'.repeat(250);
      const body = `${line}\n`.repeat(Math.floor(bytes / 251));
      const headers = { 'content-type': 'application/x-ndjson' };
      const answers = await Promise.all(
        Array.from({ length: requests }, () =>
          fetch(`${url}/topics/fast`, { method: 'POST', headers, body }).then(({ status }) => status),
        ),
      );
      assert.deepEqual(new Set(answers), new Set([200]));
      const lines = requests * Math.floor(bytes / 251);
      await getsAll(reader, Array<string>(lines).fill(line));
    });
  }
});

describe('sluice publish and sluice tail', () => {
  it('carries lines from the stdin of publish to the stdout of tail', async () => {
    const { url } = await serve([]);
    const publisher = sluice(['publish', url, 'news', '--event', 'line', '--ids']);
    const reader = sluice(['tail', `${url}/events?topic=news`, '--max', '3', '--json']);
    const followed = async () => {
      const { topics } = (await (await fetch(`${url}/topics`)).json()) as {
        topics: { subscribers: number }[];
      };
      return topics.some(({ subscribers }) => subscribers === 1);
    };
    while (!(await followed())) await new Promise((resolve) => setTimeout(resolve, 20));
    publisher.child.stdin.end('one\ntwo\nthree\n');
    assert.deepEqual([await publisher.code, await reader.code], [0, 0]);
    const printed = reader
      .stdout()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      printed.map(({ event, data }) => [event, data]),
      [
        ['line', 'one'],
        ['line', 'two'],
        ['line', 'three'],
      ],
    );
    assert.deepEqual(
      publisher.stdout().trim().split('\n'),
      printed.map(({ id }) => id),
    );
  });

  it('resumes at the stored position after a restart of tail', async () => {
    const { url } = await serve([]);
    const state = join(folder, 'place');
    const read = () => sluice(['tail', `${url}/events?topic=kept`, '--state', state, '--max', '1']);
    const first = read();
    while (!first.stdout().includes('\n')) {
      await fetch(`${url}/topics/kept`, { method: 'POST', body: 'seen' });
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.equal(await first.code, 0);
    await fetch(`${url}/topics/kept?event=marker`, { method: 'POST', body: 'missed' });
    let printed = '';
    for (let runs = 0; runs < 100 && !printed.includes('missed'); runs++) {
      const next = read();
      assert.equal(await next.code, 0);
      printed += next.stdout();
    }
    assert.match(printed, /^(seen\n)*missed\n$/);
  });
});

describe('a sluice command whose work is not done', () => {
  /** A server that answers each connection with these bytes, and then with its end or a reset. */
  async function answering(t: TestContext, bytes: string, reset = false): Promise<string> {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => {
        if (reset) socket.resetAndDestroy();
        else socket.end(bytes);
      });
    }).listen(0, '127.0.0.1');
    t.after(() => server.close());
    await once(server, 'listening');
    return `http://127.0.0.1:${(server.address() as { port: number }).port}/`;
  }

  for (const [title, bytes] of [
    ['101', 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n'],
    ['half an answer', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"ids":["1'],
    ['204', 'HTTP/1.1 204 No Content\r\n\r\n'],
    ['a reset', undefined],
  ] as const) {
    it(`exits with 1: sluice publish to a server that answers with ${title}`, async (t) => {
      const url = await answering(t, bytes ?? '', bytes === undefined);
      const { child, code, stderr } = sluice(['publish', '--attempts', '1', url, 'n']);
      child.stdin.end('a\n');
      assert.equal(await code, 1);
      assert.match(stderr(), /; 0 published before\n$/);
    });
  }

  it('ends by the second signal although a thread waits for the reader of a named pipe', {
    skip: process.platform === 'win32',
    timeout: 20_000,
  }, async (t) => {
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const url = await answering(t, 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: a\n\n');
    const { child, code, stdout } = sluice(['tail', '--record', pipe, url]);
    while (stdout() === '') await once(child.stdout, 'data');
    const timer = setInterval(() => child.kill('SIGTERM'), 100);
    t.after(() => clearInterval(timer));
    assert.equal(await code, null);
    assert.equal(child.signalCode, 'SIGTERM');
  });

  it('exits with 1 where the input of sluice publish is a directory', async () => {
    const input = openSync(folder, 'r');
    const argv = ['--import', import.meta.resolve('tsx'), bin, 'publish', 'http://127.0.0.1:9/', 'n'];
    const child = spawn(process.execPath, argv, { stdio: [input, 'pipe', 'pipe'] });
    closeSync(input);
    let stderr = '';
    child.stderr!.on('data', (chunk) => {
      stderr += chunk;
    });
    const [code] = await once(child, 'close');
    assert.deepEqual(
      [code, stderr],
      [1, 'sluice publish: the standard input is a directory; 0 published before\n'],
    );
  });

  it('exits with 1 where its output is a full disk', { skip: process.platform !== 'linux' }, () => {
    const output = openSync('/dev/full', 'w');
    for (const argv of [['--help'], ['completion', 'bash'], ['help', 'copy']]) {
      const { status, stderr } = spawnSync(
        process.execPath,
        ['--import', import.meta.resolve('tsx'), bin, ...argv],
        { stdio: ['ignore', output, 'pipe'], encoding: 'utf8' },
      );
      assert.equal(status, 1);
      assert.match(stderr, /^sluice: the output cannot be written: ENOSPC: .*\n$/);
    }
    closeSync(output);
  });

  it('exits with 1 where nothing is left to wait for', async () => {
    // No request is ever answered, and no timer holds the process.
    const faults = `
      import http from 'node:http';
      http.request = () => ({ once() {}, on() {}, off() {}, end() {}, destroy() {}, setTimeout() {} });
      const { setTimeout } = globalThis;
      globalThis.setTimeout = (...args) => setTimeout(...args).unref();`;
    const { child, code, stderr } = sluice(['publish', 'http://127.0.0.1:9/', 'n'], {
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(faults)}`,
    });
    child.stdin.end('a\n');
    assert.equal(await code, 1);
    assert.equal(stderr(), 'sluice has ended before its work was done\n');
  });
});

describe('a sluice command that cannot run', () => {
  const misuse: [string[], RegExp][] = [
    [
      ['serve', '--prot', '80'],
      /^sluice serve: unknown option "--prot" \(did you mean --port\?\); see sluice serve --help\n$/,
    ],
    [
      ['serve', '--port', 'http'],
      /^sluice serve: --port must be a whole number from 0 to 65535, got "http"; /,
    ],
    [['serve', '--port', '70000'], /^sluice serve: --port must be .* 65535, got "70000"; /],
    [['serve', '--port', '-1'], /^sluice serve: --port must be .* 65535, got "-1"; /],
    [['serve', '--retry', 'soon'], /^sluice serve: --retry must be a duration such as .*, got "soon"; /],
    [['serve', '--retry', 'off'], /^sluice serve: --retry must be a duration such as .* 1h, got "off"; /],
    [['serve', '--retry', '500h'], /^sluice serve: --retry must be at most 477.2h, got "500h"; /],
    [['serve', '--history', '0'], /^sluice serve: --history must be .* got "0"; /],
    [
      ['serve', '--history-bytes', '4MB'],
      /^sluice serve: --history-bytes must be a number of bytes such as .* 256MiB, got "4MB"; /,
    ],
    [['serve', '--history-age', '0s'], /^sluice serve: --history-age must be .* got "0s"; /],
    [['serve', '--max-age', '600h'], /^sluice serve: --max-age must be at most 596.5h, or off, got "600h"; /],
    [['serve', '--heartbeat', '15'], /^sluice serve: --heartbeat must be a duration such as .*, got "15"; /],
    [['serve', '--max-connections', '0'], /^sluice serve: --max-connections must be .* got "0"; /],
    [['serve', '--subscribe-token', ''], /^sluice serve: --subscribe-token is empty; /],
    [
      ['serve', '--publish-token-file', '/dev/null'],
      /^sluice serve: --publish-token-file \/dev\/null holds no token; /,
    ],
    [
      ['serve', '--log', 'file:x'],
      /^sluice serve: --log must be memory, sqlite:FILE or redis:\/\/HOST, got "file:x"; /,
    ],
    [
      ['serve', '--log', 'redis:x'],
      /^sluice serve: --log must be redis:\/\/\[USER@\]HOST.*, got "redis:x"; /,
    ],
    [
      ['serve', '--log', 'redis://h:99999'],
      /^sluice serve: --log must be redis:.*, got "redis:\/\/h:99999"; /,
    ],
    [
      ['serve', '--log', 'redis://u:secret@h/x'],
      /^sluice serve: --log must be redis:.*, got "redis:\/\/h\/x"; /,
    ],
    [['serve', '--log', 'rediss://h?password=secret'], /^sluice serve: --log must be .* "rediss:\/\/h\?…"; /],
    [['serve', '--log-name', 'a'], /^sluice serve: --log-name needs --log redis:\/\/HOST; /],
    [['serve', '--log-wait', '1', '--log', 'memory'], /^sluice serve: --log-wait needs --log redis:/],
    [
      ['serve', '--log', 'redis://h', '--log-durability', 'power'],
      /^sluice serve: --log-durability needs --log sqlite:FILE; /,
    ],
    [['serve', '--stdin', 'a b'], /^sluice serve: --stdin must be .* got "a b"; /],
    [
      ['serve', '--tail', '/dev/null:a b'],
      /^sluice serve: the topic of --tail \/dev\/null:a b must be .* got "a b"; /,
    ],
    [['serve', '--heartbeat', '0'], /^sluice serve: --heartbeat must be at least 1ms, got "0"; /],
    [
      ['serve', '--allow-host', 'http://a'],
      /^sluice serve: --allow-host must hold names .* got "http:\/\/a"; /,
    ],
    [['serve', '--window', 'off'], /^sluice serve: --window must be a duration such as .* got "off"; /],
    [
      ['serve', '--window', '5s', '--deadline', '4s'],
      /^sluice serve: --deadline must be at least --window, which is "5s", got "4s"; /,
    ],
    [['serve', 'now'], /^sluice serve: unexpected "now"; /],
    [['tail'], /^sluice tail: .*\n$/],
    [['tail', '--foo', 'http://localhost'], /^sluice tail: .*--foo.*\n$/],
    [['publish', 'http://localhost'], /^sluice publish: .*\n$/],
    [['sevre'], /^sluice: unknown command "sevre" \(did you mean serve\?\); see sluice --help\n$/],
    [['toString'], /^sluice: unknown command "toString"; /],
  ];
  for (const [argv, line] of misuse) {
    it(`reports the mistake in one line and exits with 2: sluice ${argv.join(' ')}`, async () => {
      // A server that starts after all is stopped, and exits with 0.
      const [command = '', ...rest] = argv;
      const { code, stderr, stdout } = await run(command, rest, { signal: AbortSignal.timeout(10_000) });
      assert.equal(code, 2);
      assert.match(stderr, line);
      assert.equal(stderr.split('\n').length, 2);
      assert.equal(stdout, '');
    });
  }

  it('says what to install where no client of Redis is installed, and exits with 1', async () => {
    const { code, stderr } = sluice(['serve', '--port', '0', '--log', 'redis://user:secret@127.0.0.1:1/2']);
    assert.equal(await code, 1);
    assert.equal(
      stderr(),
      'sluice serve: --log redis://127.0.0.1:1/2 needs a client: run "npm install redis" here (or "ioredis")\n',
    );
  });

  it('reports a port that is in use in one line, and exits with 1', async (t) => {
    const taken = createServer().listen(0, '127.0.0.1');
    t.after(() => taken.close());
    await once(taken, 'listening');
    const { port } = taken.address() as { port: number };
    const { code, stderr } = sluice(['serve', '--port', String(port)]);
    assert.equal(await code, 1);
    assert.equal(
      stderr(),
      `sluice serve: --port ${port} is in use on 127.0.0.1; give another port, or 0 for a free one (EADDRINUSE)\n`,
    );
  });

  it('reports a file that is missing or no regular file in one line, and exits with 1', async () => {
    const missing = sluice(['serve', '--port', '0', '--tail', 'missing.log']);
    assert.equal(await missing.code, 1);
    assert.match(missing.stderr(), /^sluice serve: --tail missing\.log cannot be read: ENOENT.*\n$/);
    const directory = sluice(['serve', '--port', '0', '--tail', folder]);
    assert.equal(await directory.code, 1);
    assert.match(directory.stderr(), /^sluice serve: --tail .* is not a regular file\n$/);
  });

  it('exits with 2 as a process after a mistake', async () => {
    assert.equal(await sluice(['serve', '--prot', '80']).code, 2);
  });

  it('prints its help and its version, and exits with 0', async () => {
    for (const [argv, text] of [
      [[], /^Usage: sluice /],
      [['--help'], /^Usage: sluice /],
      [['serve', '--help'], /^Usage: sluice serve /],
      [['--version'], /^\d+\.\d+\.\d+\n$/],
    ] as const) {
      const { code, stdout } = sluice(argv);
      assert.equal(await code, 0);
      assert.match(stdout(), text);
    }
  });
});
