import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readOptions } from '../../lib/command/argv.ts';

const specs = {
  port: { kind: 'count' },
  age: { kind: 'duration' },
  cors: { kind: 'text', many: true },
  system: { kind: 'flag' },
  header: { kind: 'text', many: true, short: 'H' },
} as const;

describe('readOptions', () => {
  it('reads each kind, and collects what may come many times', () => {
    const { values, positionals } = readOptions(
      ['one', '--port', '80', '--age=1.5s', '--cors', 'a', '--cors', 'b', '--system', '-H', 'x: y', 'two'],
      specs,
    );
    assert.deepEqual(
      { ...values },
      { port: 80, age: 1500, cors: ['a', 'b'], system: true, header: ['x: y'] },
    );
    assert.deepEqual(positionals, ['one', 'two']);
  });

  it('leaves out what is not given', () => {
    assert.deepEqual(
      { ...readOptions([], specs).values },
      { port: undefined, age: undefined, cors: [], system: undefined, header: [] },
    );
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

  for (const [argv, message] of [
    [['--prot', '1'], 'unknown option "--prot"'],
    [['--port', 'x'], '--port must be a whole number, got "x"'],
    [['--port=-1'], '--port must be a whole number, got "-1"'],
    [['--age', '5'], '--age must be a duration such as 500ms, 10s, 5m, 1h or off, got "5"'],
    [['--age', 'soon'], '--age must be a duration such as 500ms, 10s, 5m, 1h or off, got "soon"'],
    [['--port'], 'option "--port <value>" argument missing'],
    [['--system=1'], 'option "--system" does not take an argument'],
  ] as const) {
    it(`says in one line what is wrong with ${argv.join(' ')}`, () => {
      assert.throws(() => readOptions(argv, specs), { code: 'ERR_SSE_USAGE', message });
    });
  }
});
