import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { paintFor } from '../../lib/command/colors.ts';
import { prettyJson } from '../../lib/command/pretty-json.ts';

const plain = paintFor({ isTTY: false }, {});
const colors = paintFor({ isTTY: true }, {});

describe('prettyJson', () => {
  it('writes each member on a line of its own, and empty ones as they are', () => {
    assert.equal(
      prettyJson(' {"a":[1, {"b":null}],"c":{ },"d":[]}', plain),
      '{\n  "a": [\n    1,\n    {\n      "b": null\n    }\n  ],\n  "c": {},\n  "d": []\n}',
    );
  });

  it('is JSON of the same value, whatever it holds', () => {
    const value = fc.oneof(
      fc.array(fc.jsonValue()),
      fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 5 })),
    );
    fc.assert(
      fc.property(value, (one) => {
        const text = JSON.stringify(one);
        assert.equal(prettyJson(text, plain), JSON.stringify(JSON.parse(text), undefined, 2));
        const isAnyColor = /\x1b\[\d+m/g;
        assert.equal(prettyJson(text, colors)!.replaceAll(isAnyColor, ''), prettyJson(text, plain));
      }),
    );
  });

  it('leaves numbers, escapes and repeated names as they were written', () => {
    const text = '{"a":12345678901234567890,"a":1.50,"b":"\\u0041\\/"}';
    assert.equal(
      prettyJson(text, plain),
      '{\n  "a": 12345678901234567890,\n  "a": 1.50,\n  "b": "\\u0041\\/"\n}',
    );
  });

  it('tells names, strings and other values apart by colours', () => {
    assert.equal(
      prettyJson('{"a":"b: c","d":[true]}', colors),
      '{\n  \x1b[34m"a"\x1b[0m: \x1b[32m"b: c"\x1b[0m,\n  \x1b[34m"d"\x1b[0m: [\n    \x1b[33mtrue\x1b[0m\n  ]\n}',
    );
  });

  for (const [title, text] of [
    ['a number', '1'],
    ['a string', '"{}"'],
    ['half an object', '{"a":'],
    ['text after an object', '{} x'],
    ['more levels than 32', '['.repeat(33) + ']'.repeat(33)],
    ['hundreds of thousands of levels', '['.repeat(500_000) + ']'.repeat(500_000)],
    ['a string of a megabyte', JSON.stringify(['\\"'.repeat(500_000)])],
  ] as const) {
    it(`leaves ${title} alone`, () => assert.equal(prettyJson(text, plain), undefined));
  }

  it('takes the longest text that it accepts, of escapes alone', () => {
    const text = `["${'\\n'.repeat(49_998)}"]`;
    assert.equal(prettyJson(text, plain), `[\n  ${text.slice(1, -1)}\n]`);
  });
});

describe('paintFor', () => {
  for (const [title, isTTY, env, isColored] of [
    ['a terminal', true, {}, true],
    ['a pipe', false, {}, false],
    ['a terminal with NO_COLOR', true, { NO_COLOR: '1' }, false],
    ['a terminal with an empty NO_COLOR', true, { NO_COLOR: '' }, true],
    ['a dumb terminal', true, { TERM: 'dumb' }, false],
    ['a pipe with FORCE_COLOR', false, { FORCE_COLOR: '1', NO_COLOR: '1' }, true],
    ['a terminal with FORCE_COLOR=0', true, { FORCE_COLOR: '0' }, false],
  ] as const) {
    it(`${isColored ? 'colours' : 'does not colour'} ${title}`, () =>
      assert.equal(paintFor({ isTTY }, env)('red', 'x'), isColored ? '\x1b[31mx\x1b[0m' : 'x'));
  }
});
