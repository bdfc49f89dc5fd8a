import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readHeaders, readOptions, readTopic, readUrl, withOptionNames } from '../../lib/command/argv.ts';

const specs = {
  port: { kind: 'count', max: 65_535 },
  age: { kind: 'duration' },
  cors: { kind: 'text', many: true },
  system: { kind: 'flag' },
  header: { kind: 'text', many: true, short: 'H' },
  batch: { kind: 'count', min: 1, unit: 'lines' },
  window: { kind: 'duration', min: 10, max: 2 ** 31 - 1, off: false },
  bytes: { kind: 'size' },
  level: { kind: 'text', choices: ['info', 'warn', 'error'], variable: 'LEVEL' },
} as const;

describe('readOptions', () => {
  it('reads each kind of option, and collects the values of one that may be repeated', () => {
    const { values, positionals } = readOptions(
      ['one', '--port', '80', '--age=1.5s', '--cors', 'a', '--cors', 'b', '--system', '-H', 'x: y', 'two'],
      specs,
    );
    assert.deepEqual(
      { ...values },
      {
        port: 80,
        age: 1500,
        cors: ['a', 'b'],
        system: true,
        header: ['x: y'],
        batch: undefined,
        window: undefined,
        bytes: undefined,
        level: undefined,
      },
    );
    assert.deepEqual(positionals, ['one', 'two']);
  });

  it('gives undefined for an absent option, and an empty list for one that may be repeated', () => {
    const { values } = readOptions([], specs);
    assert.deepEqual([values.port, values.system, values.cors], [undefined, undefined, []]);
  });

  it('takes the last value of an option that collects none', () => {
    assert.equal(readOptions(['--port', '1', '--port=2'], specs).values.port, 2);
  });

  it('reads everything after -- as positionals, and a value that begins with a dash after =', () => {
    const { values, positionals } = readOptions(['--cors=-x', '--', '--port', '-1'], specs);
    assert.deepEqual(values.cors, ['-x']);
    assert.deepEqual(positionals, ['--port', '-1']);
  });

  it('reads durations in units, and "off" as no limit', () => {
    const age = (text: string) => readOptions(['--age', text], specs).values.age;
    assert.deepEqual(['0', '5ms', '5s', '5m', '5h', 'off'].map(age), [
      0,
      5,
      5000,
      300_000,
      18_000_000,
      Infinity,
    ]);
  });

  it('reads sizes as bytes or in units of 1024', () => {
    const bytes = (text: string) => readOptions(['--bytes', text], specs).values.bytes;
    assert.deepEqual(['0', '4096', '64KiB', '1.5MiB', '2GiB'].map(bytes), [
      0,
      4096,
      65_536,
      1_572_864,
      2 ** 31,
    ]);
  });

  it('reads no value where help is asked for', () => {
    const withHelp = { ...specs, help: { kind: 'flag', short: 'h' } } as const;
    const { values } = readOptions(['--port', 'x', '--cors', 'a', '-h'], withHelp, { LEVEL: 'none' });
    assert.deepEqual([values.help, values.port, values.level, values.cors], [true, undefined, undefined, []]);
  });

  it('reads an absent option from its variable, and names that in a complaint', () => {
    const level = (argv: readonly string[], LEVEL?: string) =>
      readOptions(argv, specs, { LEVEL }).values.level;
    assert.deepEqual(
      [level([]), level([], 'warn'), level(['--level', 'error'], 'warn')],
      [undefined, 'warn', 'error'],
    );
    assert.throws(() => level([], 'loud'), { message: 'LEVEL must be info, warn or error, got "loud"' });
    assert.throws(() => level([], ''), { message: 'LEVEL must be info, warn or error, got ""' });
    assert.equal(level(['--level', 'error'], 'loud'), 'error');
  });

  for (const [argv, message] of [
    [['--prot', '1'], 'unknown option "--prot" (did you mean --port?)'],
    [['--prot=1'], 'unknown option "--prot" (did you mean --port?)'],
    [['--subscribe', '1'], 'unknown option "--subscribe"'],
    [['--bytes', '4MB'], '--bytes must be a number of bytes such as 65536, 64KiB or 256MiB, got "4MB"'],
    [['--bytes', '0.3KiB'], '--bytes must be a number of bytes such as 65536, 64KiB or 256MiB, got "0.3KiB"'],
    [['--bytes', '-1'], '--bytes must be a number of bytes such as 65536, 64KiB or 256MiB, got "-1"'],
    [['--level', 'loud'], '--level must be info, warn or error, got "loud"'],
    [['--port', 'x'], '--port must be a whole number from 0 to 65535, got "x"'],
    [['--port', '-1'], '--port must be a whole number from 0 to 65535, got "-1"'],
    [['--port', '65536'], '--port must be a whole number from 0 to 65535, got "65536"'],
    [['--batch', '0'], '--batch must be a whole number of lines ≥ 1, got "0"'],
    [['--batch', '9007199254740993'], '--batch must be a whole number of lines ≥ 1, got "9007199254740993"'],
    [['--port=-1'], '--port must be a whole number from 0 to 65535, got "-1"'],
    [['--age', '5'], '--age must be a duration such as 500ms, 10s, 5m, 1h or off, got "5"'],
    [['--age', 'soon'], '--age must be a duration such as 500ms, 10s, 5m, 1h or off, got "soon"'],
    [['--window', 'off'], '--window must be a duration such as 500ms, 10s, 5m or 1h, got "off"'],
    [['--window', '9ms'], '--window must be at least 10ms, got "9ms"'],
    [['--window', '600h'], '--window must be at most 596.5h, got "600h"'],
    [['--port'], '--port needs a value'],
    [['--cors', '--port'], '--cors needs a value, got "--port"; write --cors=--port if that is the value'],
    [['--system=1'], '--system takes no value, got "1"'],
    [['--toString'], 'unknown option "--toString"'],
    [['-x'], 'unknown option "-x"'],
  ] as const) {
    it(`names the option, its value and what is accepted, for ${argv.join(' ')}`, () => {
      assert.throws(() => readOptions(argv, specs), { code: 'ERR_SSE_USAGE', message });
    });
  }
});

describe('readTopic', () => {
  it('answers a name that a topic may have', () => {
    assert.equal(readTopic('TOPIC', 'a.b:c'), 'a.b:c');
  });

  it('states what a topic may be, for any other name', () => {
    assert.throws(() => readTopic('TOPIC', 'a/b'), {
      code: 'ERR_SSE_USAGE',
      message: 'TOPIC must be 1 to 200 characters of A–Z a–z 0–9 . _ ~ : -, got "a/b"',
    });
  });
});

describe('withOptionNames', () => {
  const names = { capacity: ['batch'], maxAge: ['age', 'window'] };
  const complaint = (argv: readonly string[], message: string) => () =>
    withOptionNames(readOptions(argv, specs), names, () => {
      throw new RangeError(message);
    });

  it('names the option of the command, and its value as it was written', () => {
    assert.throws(complaint(['--batch', '007'], '`capacity` must be even, got 7'), {
      code: 'ERR_SSE_USAGE',
      message: '--batch must be even, got "007"',
    });
  });

  it('finds the option by its value where two may be meant', () => {
    const argv = ['--age', '1m', '--window', '2s'];
    assert.throws(complaint(argv, '`maxAge` must be odd, got 2000'), {
      message: '--window must be odd, got "2s"',
    });
  });

  it('passes on the message about an option that the command does not have', () => {
    assert.throws(complaint([], '`other` must be odd, got 2'), { message: '`other` must be odd, got 2' });
  });

  it('passes on an error that is about no option', () => {
    const error = new Error('no memory left');
    const fail = () => {
      throw error;
    };
    assert.throws(() => withOptionNames(readOptions([], specs), names, fail), error);
  });
});

describe('readHeaders', () => {
  it('joins the values of one name', () => {
    const headers = readHeaders(['X-Tag: a', 'x-tag: b', 'Cookie: c=1', 'cookie: d=2', '__proto__: e']);
    assert.deepEqual(Object.entries(headers), [
      ['x-tag', 'a, b'],
      ['cookie', 'c=1; d=2'],
      ['__proto__', 'e'],
    ]);
  });
});

describe('readUrl', () => {
  it('takes an address without a scheme, also with a URL in its query', () => {
    for (const text of ['localhost:8080/e?next=http://x', 'http://localhost:8080/e?next=http://x'])
      assert.equal(readUrl(text).href, 'http://localhost:8080/e?next=http://x');
    assert.throws(() => readUrl('ftp://x/'), { code: 'ERR_SSE_USAGE' });
  });
});
