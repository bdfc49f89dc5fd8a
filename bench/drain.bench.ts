// A server with 5,000 streams is told to stop over a window of 10 s: are they sent away evenly, and do all return?
// Holds constant: the number of streams, the window. Shows: closes in each second, exits, who came back elsewhere.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';

const STREAMS = Number(process.env.STREAMS ?? 5000);
const WINDOW = Number(process.env.WINDOW ?? 10_000);
const bin = new URL('../lib/bin.ts', import.meta.url).pathname;

interface Served {
  readonly child: ChildProcess;
  readonly url: string;
}

async function serve(): Promise<Served> {
  const argv = ['serve', '--port', '0', '--window', `${WINDOW}ms`, '--deadline', `${WINDOW + 5000}ms`];
  const options = { stdio: ['ignore', 'pipe', 'ignore'] as ['ignore', 'pipe', 'ignore'] };
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), bin, ...argv], options);
  const [line] = await once(child.stdout, 'data');
  return { child, url: String(line).trim().split(' ').at(-1) as string };
}

/** Opens a stream; resolves once it is ready, and tells when it ended and after how long it is to come back. */
function open(url: string, onEnd: (retry: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = http.get(`${url}/events?topic=drain`, { agent: false }, (response) => {
      let retry = 0;
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        for (const [, value] of text.matchAll(/^retry: (\d+)$/gm)) retry = Number(value);
        resolve();
      });
      response.on('close', () => onEnd(retry));
      response.on('error', () => {});
    });
    request.on('error', reject);
  });
}

const [first, second] = [await serve(), await serve()];
const closes: number[] = [];
let returned = 0;
let told = 0;
let leftAt = 0;
const allBack = new Promise<void>((resolve) => {
  const comeBack = () => {
    if (++returned === STREAMS) resolve();
  };
  const onEnd = (retry: number) => {
    const second_ = Math.floor((performance.now() - leftAt) / 1000);
    closes[second_] = (closes[second_] ?? 0) + 1;
    if (retry > 0) told++;
    setTimeout(() => open(second.url, () => {}).then(comeBack), retry);
  };
  (async () => {
    for (let opened = 0; opened < STREAMS; opened += 100) {
      await Promise.all(
        Array.from({ length: Math.min(100, STREAMS - opened) }, () => open(first.url, onEnd)),
      );
    }
    leftAt = performance.now();
    first.child.kill('SIGTERM');
  })();
});
const [code] = await once(first.child, 'close');
const exitedAfter = performance.now() - leftAt;
await allBack;
const most = Math.max(...closes.map((count) => count ?? 0));
const share = (STREAMS * 1000) / WINDOW;
console.log(`closes per second          ${Array.from(closes, (count) => count ?? 0).join(' ')}`);
console.log(
  `most in a second           ${most} = ${(most / share).toFixed(2)} × an even share (target: ≤ 2)`,
);
console.log(`told when to come back     ${told} of ${STREAMS}`);
console.log(
  `exit                       code ${code} after ${(exitedAfter / 1000).toFixed(2)} s (deadline ${(WINDOW + 5000) / 1000} s)`,
);
console.log(`back, on another instance  ${returned} of ${STREAMS}`);
second.child.kill('SIGKILL');
process.exit(0);
