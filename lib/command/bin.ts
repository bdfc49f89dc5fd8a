#!/usr/bin/env node
// The executable: runs `cli.ts`. The first SIGTERM or SIGINT stops it gracefully, the second at once.
// Needs `cli.ts` and `io.ts` beside it.

import { fstatSync, readFileSync } from 'node:fs';
import { main } from './cli.ts';
import { report } from './io.ts';

const stop = new AbortController();
for (const name of ['SIGTERM', 'SIGINT'] as const) {
  process.on(name, () => {
    if (!stop.signal.aborted) return stop.abort(name);
    // The signal's own effect: `exit` waits for the threads, and one may be blocked, as by a named pipe.
    process.removeAllListeners(name);
    process.kill(process.pid, name);
  });
}

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
const { stdin, stdout, stderr, env } = process;
const io = { stdin, stdout, stderr, env, signal: stop.signal };
let outputFailure: NodeJS.ErrnoException | undefined;
stdout.on('error', (error: NodeJS.ErrnoException) => {
  // A reader that closes the output early (`| head`) is no failure of every command: each decides.
  if (error.code !== 'EPIPE') outputFailure ??= error;
});
stderr.on('error', () => {});
// The last event, so that also a write that was pending when the command ended has failed by then.
process.on('beforeExit', () => {
  if (outputFailure === undefined || process.exitCode !== 0) return;
  process.exitCode = 1;
  report(io, 'sluice', `the output cannot be written: ${outputFailure.message}`);
});

// Node reads a directory as an empty input, so that nothing would be published and nobody told.
if (isDirectory(0)) stdin.on('error', () => {}).destroy(new Error('the standard input is a directory'));

// Where nothing is left to wait for although the command has not ended, its work is not done.
process.exitCode = 1;
const lost = (): void => void stderr.write('sluice has ended before its work was done\n');
process.once('beforeExit', lost);
main(process.argv.slice(2), io, version).then((code) => {
  process.off('beforeExit', lost);
  process.exitCode = code;
});

function isDirectory(fd: number): boolean {
  try {
    return fstatSync(fd).isDirectory();
  } catch {
    return false;
  }
}
