import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { describe, it } from 'node:test';
import { report } from '../../lib/command/io.ts';

/** What `report` writes for a message. */
function written(message: string): string {
  const stderr = new PassThrough();
  const stdout = new PassThrough();
  const { signal } = new AbortController();
  report({ stdin: new PassThrough(), stdout, stderr, env: {}, signal }, 'sluice tail', message);
  return String(stderr.read());
}

describe('report', () => {
  it('writes one line, without the spaces around line feeds and without control characters', () => {
    assert.equal(written(' a b \r\n\n  c\x1b[2J\n'), 'sluice tail: a b c\\x1b[2J\n');
  });

  it('is not slowed down by a million spaces', () => {
    const spaces = ' '.repeat(1_000_000);
    assert.equal(written(`a${spaces}b\n`), `sluice tail: a${spaces}b\n`);
  });
});
