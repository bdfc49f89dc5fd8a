import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { after, describe, it, type TestContext } from 'node:test';
import type { InputLogLine } from '../../lib/command/input.ts';
import { readInputs, startInputs } from '../../lib/command/inputs.ts';
import type { CommandInput } from '../../lib/command/io.ts';
import { Hub, type HubOptions } from '../../lib/hub.ts';
import { drain, MemoryReader, slowReader } from '../helpers/hub.ts';

const folder = mkdtempSync(join(tmpdir(), 'sluice-inputs-'));
after(() => rmSync(folder, { recursive: true }));
let count = 0;

interface Given {
  readonly stdin?: CommandInput;
  /** A file with this text, which is followed. */
  readonly tail?: string;
  readonly system?: boolean;
  readonly hub?: HubOptions;
  /** Changes the hub before the inputs start. */
  readonly change?: (hub: Hub) => void;
}

/** Inputs that publish to topic `a`, the lines that they log, and a reader of the topic. */
async function start(t: TestContext, { stdin, tail, system = false, hub: options, change }: Given) {
  const hub = new Hub(options);
  const reader = new MemoryReader();
  hub.subscribe(system ? 'system' : 'a', reader);
  change?.(hub);
  const file = join(folder, `${++count}.log`);
  if (tail !== undefined) writeFileSync(file, tail);
  const log: InputLogLine[] = [];
  const control = new AbortController();
  t.after(() => control.abort());
  const inputs = await readInputs({
    tail: tail === undefined ? [] : [`${file}:a`],
    stdin: stdin === undefined ? undefined : 'a',
    system,
  });
  const states = await startInputs({ hub, streams: new Set() }, inputs, {
    source: stdin ?? new PassThrough(),
    signal: control.signal,
    logger: (line) => log.push(line),
  });
  const input = states.list[0]!;
  const until = async (holds: () => boolean) => {
    while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2));
  };
  const events = () => log.map(({ event }) => event);
  return { hub, reader, file, log, events, control, states, input, until };
}

/** Makes the hub refuse what `refuses` says, with that error. */
function refuse(hub: Hub, refuses: (data: string) => Error | undefined): void {
  const { publish } = hub;
  hub.publish = (topic, event) => {
    const error = refuses((event as { data: string }).data);
    if (error !== undefined) throw error;
    return publish.call(hub, topic, event);
  };
}

describe('an input', () => {
  it('pauses the writer of standard input, and reads a file no further, while a reader is behind', async (t) => {
    const line = `${'x'.repeat(1000)}\n`;
    const count = 4000; // lines, as many bytes as the history of a topic
    for (const kind of ['stdin', 'tail'] as const) {
      // The clock stands: however slow this machine is, the reader counts as one that keeps up.
      const options = { now: () => 1_795_408_776_829, history: { maxEvents: 1000 } };
      const stdin = new PassThrough();
      const { hub, file } = await start(t, { [kind]: kind === 'stdin' ? stdin : '', hub: options });
      const slow = slowReader();
      hub.subscribe('a', slow);
      if (kind === 'tail') appendFileSync(file, line.repeat(count));
      else Readable.from([...Array(count).fill(line)].map((text) => Buffer.from(text))).pipe(stdin);
      const settled = async () => {
        for (let before = -1; before < hub.stats.published; ) {
          before = hub.stats.published;
          for (let i = 0; i < 100; i++) await new Promise((resolve) => setTimeout(resolve, 1));
        }
      };
      while (hub.stats.published === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      await settled();
      assert.ok(hub.stats.published < 600, `${hub.stats.published} of ${count}`);
      if (kind === 'stdin') assert.equal(stdin.writableNeedDrain, true);
      while (hub.stats.published < count || slow.story.length <= count) await drain(slow);
      assert.deepEqual(slow.gaps, []);
    }
  });

  it('skips a line that the hub refuses, and logs one line with its size', async (t) => {
    const stdin = new PassThrough();
    const { reader, log, input, until } = await start(t, {
      stdin,
      hub: { history: { maxBytes: 1000 } },
    });
    stdin.write(`a\n${'x'.repeat(5000)}\nb\n`);
    await until(() => reader.texts.length === 2);
    assert.deepEqual(reader.texts, ['a', 'b']);
    assert.equal(log.length, 1);
    const { message, ...line } = log[0]!;
    assert.match(String(message), /1000 bytes/);
    assert.deepEqual(line, {
      level: 'warn',
      event: 'input-skipped',
      input: 'stdin',
      topic: 'a',
      events: 1,
      bytes: 5000,
    });
    assert.deepEqual([input.state, input.skipped], ['up', 1]);
  });

  it('logs at most one line in ten seconds for lines that are skipped, and then how many', async (t) => {
    let now = 50_000;
    t.mock.method(performance, 'now', () => now);
    const stdin = new PassThrough();
    const { reader, log, input, until } = await start(t, { stdin, hub: { history: { maxBytes: 1000 } } });
    const large = `${'x'.repeat(5000)}\n`;
    stdin.write(`${large.repeat(50)}a\n`);
    await until(() => reader.texts.length === 1);
    now += 9_999;
    stdin.write(`${large}b\n`);
    await until(() => reader.texts.length === 2);
    now += 1;
    stdin.write(`${large}c\n`);
    await until(() => reader.texts.length === 3);
    assert.deepEqual(
      log.map((line) => [line.event, line.events]),
      [
        ['input-skipped', 1],
        ['input-skipped', 51],
      ],
    );
    assert.equal(input.skipped, 52);
  });

  it('drops its lines while its topic is ended, says so once, and goes on when it is reopened', async (t) => {
    const { hub, file, log, input, states, until } = await start(t, { tail: '' });
    appendFileSync(file, 'one\n');
    await until(() => hub.stats.published === 1);
    hub.end('a');
    appendFileSync(file, 'two\nthree\nfour\n');
    await until(() => input.skipped === 3);
    assert.equal(input.state, 'down');
    assert.deepEqual(states.count(), { up: 0, down: 1, ended: 0 });
    hub.reopen('a');
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    appendFileSync(file, 'five\n');
    await until(() => reader.texts.length === 1);
    assert.deepEqual(reader.texts, ['five']);
    assert.equal(input.state, 'up');
    assert.deepEqual(
      log.map(({ level, event }) => [level, event]),
      [
        ['error', 'input-failed'],
        ['info', 'input-recovered'],
      ],
    );
    assert.match(String(log[0]!.message), /"a" has ended: what comes is dropped until it is reopened/);
    assert.equal(log[1]!.skipped, 3);
  });

  for (const [title, error] of [
    ['503', Object.assign(new Error('too many topics'), { code: 'ERR_SSE_TOO_MANY_TOPICS', status: 503 })],
    ['429', Object.assign(new Error('slow down'), { status: 429 })],
    ['an error of the log', new Error('disk I/O error')],
  ] as const) {
    it(`publishes a line again that was refused with ${title}, and reads no further meanwhile`, async (t) => {
      let left = 3;
      const stdin = new PassThrough();
      const { reader, events, until, states, log } = await start(t, {
        stdin,
        change: (hub) => refuse(hub, (data) => (data === 'b' && left-- > 0 ? error : undefined)),
      });
      stdin.write('a\nb\nc\n');
      await until(() => events().length === 1);
      assert.deepEqual(states.count(), { up: 0, down: 1, ended: 0 });
      await until(() => reader.texts.length === 3);
      assert.deepEqual(reader.texts, ['a', 'b', 'c']);
      assert.deepEqual(events(), ['input-failed', 'input-recovered']);
      assert.equal(log[0]!.message, error.message);
      assert.deepEqual(states.count(), { up: 1, down: 0, ended: 0 });
    });
  }

  it('goes on when its file can be read again, and is down meanwhile', async (t) => {
    const { reader, file, events, input, until } = await start(t, { tail: 'old\n' });
    appendFileSync(file, 'one\n');
    await until(() => reader.texts.length === 1);
    renameSync(file, `${file}.1`);
    mkdirSync(file);
    writeFileSync(join(file, 'not empty'), '');
    await until(() => input.state === 'down');
    rmSync(file, { recursive: true });
    writeFileSync(file, 'two\n');
    await until(() => reader.texts.length === 2);
    await until(() => input.state === 'up');
    assert.deepEqual(reader.texts, ['one', 'two']);
    assert.deepEqual(events(), ['input-failed', 'input-recovered']);
  });

  it('has recovered only when neither its file nor its topic fails any more', async (t) => {
    const { hub, file, events, input, until } = await start(t, { tail: '' });
    appendFileSync(file, 'one\n');
    await until(() => hub.stats.published === 1);
    hub.end('a');
    appendFileSync(file, 'two\n');
    await until(() => input.state === 'down');
    rmSync(file);
    mkdirSync(file);
    writeFileSync(join(file, 'not empty'), '');
    await until(() => events().length === 2);
    rmSync(file, { recursive: true });
    writeFileSync(file, 'three\n');
    await until(() => input.skipped === 2);
    // The file can be read again, which is found in the same round or the next one.
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(input.state, 'down');
    assert.deepEqual(events(), ['input-failed', 'input-failed']);
    hub.reopen('a');
    appendFileSync(file, 'four\n');
    await until(() => input.state === 'up');
    assert.deepEqual(events(), ['input-failed', 'input-failed', 'input-recovered']);
  });

  it('is opened again where its file was lost between the check and the first reading', async (t) => {
    const given = join(folder, 'lost.log');
    writeFileSync(given, 'old\n');
    const inputs = await readInputs({ tail: [`${given}:a`], stdin: undefined, system: undefined });
    rmSync(given);
    const hub = new Hub();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    const control = new AbortController();
    t.after(() => control.abort());
    const log: InputLogLine[] = [];
    const states = await startInputs({ hub, streams: new Set() }, inputs, {
      source: new PassThrough(),
      signal: control.signal,
      logger: (line) => log.push(line),
    });
    assert.match(String(log[0]!.message), /ENOENT/);
    // Some attempts, each of which finds no file.
    await new Promise((resolve) => setTimeout(resolve, 400));
    assert.equal(states.list[0]!.state, 'down');
    assert.equal(log.length, 1);
    writeFileSync(given, 'new\n');
    while (reader.texts.length < 1) await new Promise((resolve) => setTimeout(resolve, 2));
    assert.deepEqual(reader.texts, ['new']);
    assert.equal(states.list[0]!.state, 'up');
  });

  it('publishes text that is not UTF-8, NULs, CRs and empty lines', async (t) => {
    const { reader, file, until, log } = await start(t, { tail: '' });
    appendFileSync(file, Buffer.from([0x61, 0xff, 0x00, 0x62, 0x0a]));
    appendFileSync(file, 'c\r\n\n50 %\r100 %\r\nend\n');
    await until(() => reader.texts.length === 5);
    assert.deepEqual(reader.texts, ['a\ufffd\0b', 'c', '', '50 %\n100 %', 'end']);
    assert.deepEqual(log, []);
  });

  it('keeps a bounded part of a line that never ends', async (t) => {
    const { reader, file, until, log } = await start(t, { tail: '' });
    for (let i = 0; i < 48; i++) appendFileSync(file, 'x'.repeat(65_536));
    appendFileSync(file, '\nend\n');
    await until(() => reader.texts.length === 2);
    assert.equal(reader.texts[0], `${'x'.repeat(1_048_576)}… [+${2 * 1_048_576} bytes]`);
    assert.deepEqual(log, []);
  });

  it('is down for good where standard input fails, and does not end its topic', async (t) => {
    const stdin = new PassThrough();
    const { hub, reader, events, input, states, until } = await start(t, { stdin });
    stdin.write('a\n');
    await until(() => reader.texts.length === 1);
    stdin.destroy(new Error('EIO: i/o error, read'));
    await until(() => input.state === 'down');
    assert.deepEqual(events(), ['input-failed']);
    assert.equal(hub.topics()[0]!.ended, false);
    assert.deepEqual(states.count(), { up: 0, down: 1, ended: 0 });
  });

  it('reads a standard input that has failed no more', async (t) => {
    t.mock.method(Math, 'random', () => 0);
    let readings = 0;
    const stdin = {
      async *[Symbol.asyncIterator](): AsyncGenerator<string> {
        readings++;
        yield 'a\n';
        throw new Error('EIO: i/o error, read');
      },
    };
    const { events, until } = await start(t, { stdin });
    await until(() => events().length === 1);
    // Longer than the shortest wait before another attempt.
    await new Promise((resolve) => setTimeout(resolve, 250));
    assert.equal(readings, 1);
  });

  it('ends its topic with standard input, and is no failure then', async (t) => {
    const stdin = new PassThrough();
    const { hub, events, states, until } = await start(t, { stdin });
    stdin.end('a\n');
    await until(() => hub.topics()[0]!.ended);
    assert.deepEqual(states.count(), { up: 0, down: 0, ended: 1 });
    assert.deepEqual(events(), ['input-ended']);
  });

  it('stops with its signal without ending its topic, also while it waits to try again', async (t) => {
    const stdin = new PassThrough();
    const { hub, events, control, until } = await start(t, {
      stdin,
      change: (hub) => refuse(hub, () => new Error('never')),
    });
    stdin.write('a\n');
    await until(() => events().length === 1);
    control.abort();
    await until(() => stdin.destroyed);
    assert.equal(hub.topics()[0]?.ended, false);
    assert.deepEqual(events(), ['input-failed']);
  });

  it('takes samples of the system again after one has failed', async (t) => {
    const { memoryUsage } = process;
    let failures = 1;
    t.mock.method(process, 'memoryUsage', () => {
      if (failures-- > 0) throw new Error('ENOENT: /proc is not mounted');
      return memoryUsage();
    });
    const { reader, events, until } = await start(t, { system: true });
    await until(() => reader.texts.length === 1);
    assert.deepEqual(events(), ['input-failed', 'input-recovered']);
  });
});

describe('readInputs', () => {
  it('refuses a file that is given twice for one topic', async () => {
    const file = join(folder, 'twice.log');
    writeFileSync(file, '');
    const read = (tail: string[]) => readInputs({ tail, stdin: undefined, system: undefined });
    await assert.rejects(read([file, `${file}:twice.log`]), {
      code: 'ERR_SSE_USAGE',
      message: `--tail ${file} is given twice for topic "twice.log"`,
    });
    assert.equal((await read([file, `${file}:other`])).tails.length, 2);
  });

  it('does not take the end of the name of a file for a topic', {
    skip: process.platform === 'win32',
  }, async (t) => {
    const read = (...tail: string[]) => readInputs({ tail, stdin: undefined, system: undefined });
    const file = join(folder, 'app-12:30:00.log');
    writeFileSync(file, '');
    await assert.rejects(read(file), {
      code: 'ERR_SSE_USAGE',
      message: `--tail ${file} is FILE:TOPIC, and there is no file ${join(folder, 'app-12:30')}; write ${file}:TOPIC`,
    });
    assert.deepEqual((await read(`${file}:a`)).tails, [{ file, topic: 'a' }]);
    // The name of a file on Windows; here it is one in the current folder.
    const place = process.cwd();
    t.after(() => process.chdir(place));
    process.chdir(folder);
    const onWindows = 'C:\\logs\\app.log';
    writeFileSync(onWindows, '');
    assert.deepEqual((await read(onWindows)).tails, [{ file: onWindows, topic: 'C--logs-app.log' }]);
    assert.deepEqual((await read(`${onWindows}:a`)).tails, [{ file: onWindows, topic: 'a' }]);
  });
});
