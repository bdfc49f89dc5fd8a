import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import { logLinesTo } from '../../lib/command/log-lines.ts';
import type { LogLine } from '../../lib/server.ts';

type Options = Parameters<typeof logLinesTo>[1];

async function logged(
  lines: readonly LogLine[],
  options: Options,
  { isTTY = false, env = {} }: { isTTY?: boolean; env?: Record<string, string> } = {},
): Promise<string> {
  const stderr = Object.assign(new PassThrough(), { isTTY });
  const logger = logLinesTo({ stderr, env }, options);
  for (const line of lines) logger(line);
  stderr.end();
  return text(stderr);
}

const refused: LogLine = { level: 'warn', event: 'refused', reason: 'unauthorized', status: 401 };
const closed: LogLine = { level: 'info', event: 'stream-closed', reason: 'client-gone', topics: ['a b'] };
const failed: LogLine = { level: 'error', event: 'failed', message: 'Error: \x1b[2Jno\n  at one' };
const onTerminal = { isTTY: true, env: { NO_COLOR: '1' } };

describe('logLinesTo', () => {
  it('writes JSON lines where stderr is no terminal, with the time and the details', async () => {
    const lines = await logged([refused], { details: { worker: 1 } }, { env: { FORCE_COLOR: '1' } });
    const { time, ...rest } = JSON.parse(lines);
    assert.equal(new Date(time).toISOString(), time);
    assert.deepEqual(rest, { worker: 1, ...refused });
  });

  it('writes plain lines on a terminal', async () => {
    const lines = await logged([refused, closed], { details: { worker: 1 } }, onTerminal);
    assert.match(
      lines,
      /^\d\d:\d\d:\d\d warn {2}refused worker=1 reason=unauthorized status=401\n\d\d:\d\d:\d\d info {2}stream-closed worker=1 reason=client-gone topics=\["a b"\]\n$/,
    );
  });

  it('writes a message last, its further lines indented and its control characters shown', async () => {
    assert.match(await logged([failed], {}, onTerminal), /error failed Error: \\x1b\[2Jno\n {6}at one\n$/);
  });

  it('colours the level on a terminal', async () => {
    assert.match(await logged([failed], {}, { isTTY: true }), /\x1b\[31merror\x1b\[0m failed/);
  });

  it('writes what the format asks for, wherever it writes', async () => {
    assert.match(await logged([refused], { format: 'text' }), / warn {2}refused reason=/);
    assert.equal(JSON.parse(await logged([refused], { format: 'json' }, { isTTY: true })).status, 401);
  });

  it('leaves out what is below the level', async () => {
    const events = async (level: Options['level']) =>
      (await logged([closed, refused, failed], { level, format: 'text' }, onTerminal)).match(
        /(?<=\d\d \w+ +)[a-z-]+/g,
      );
    assert.deepEqual(await events('info'), ['stream-closed', 'refused', 'failed']);
    assert.deepEqual(await events('warn'), ['refused', 'failed']);
    assert.deepEqual(await events('error'), ['failed']);
  });
});
