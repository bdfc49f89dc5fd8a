// The system's Chromium, without the traffic of its own that no test asked for.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Browser, type BrowserContext, chromium } from 'playwright-core';

const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const args = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--disable-component-update',
];

export function launchChromium(): Promise<Browser> {
  return chromium.launch({ executablePath, args });
}

/**
 * A Chromium whose pages can be hidden and frozen, until the test is over. Playwright makes each page of a browser
 * that it launches count as visible and focused.
 */
export async function launchFreezable(t: { after(done: () => unknown): void }): Promise<BrowserContext> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-chromium-'));
  const own = ['--headless', '--remote-debugging-port=0', `--user-data-dir=${folder}`];
  const child = spawn(executablePath, [...args, ...own], { stdio: ['ignore', 'ignore', 'pipe'] });
  const closed = once(child, 'close');
  t.after(async () => {
    child.kill();
    await closed;
    await rm(folder, { recursive: true, maxRetries: 10 });
  });
  for await (const line of createInterface(child.stderr)) {
    const address = /^DevTools listening on (\S+)$/.exec(line)?.[1];
    if (address === undefined) continue;
    child.stderr.resume();
    const browser = await chromium.connectOverCDP(address, { noDefaults: true });
    return browser.contexts()[0]!;
  }
  throw new Error(`${executablePath} does not start`);
}
