// The cluster of examples/cluster, as its scripts start and restart it: three servers, HAProxy and one Redis.

import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Counts } from '../../examples/cluster/readers.ts';
import { type Faults, Sequence } from '../../examples/cluster/sequence.ts';
import { askHaproxy, NAMES, readState } from '../../examples/cluster/state.ts';
import { Reader, Reading } from '../helpers/reader.ts';
import { isAccessible } from './helpers/accessible.ts';
import { kept } from './helpers/children.ts';
import { launchChromium } from './helpers/chromium.ts';

const LONG = process.env.SLUICE_LONG === '1';
/** More readers than one process of the example can be. */
const MOST_OF_EXAMPLE = 500;
const [READERS, RATE, WINDOW] = LONG ? [2000, 200, 30] : [200, 100, 10];

/**
 * Seconds over which a rate of reconnects is counted. Of a few readers in a second, chance alone makes three times the
 * mean.
 */
const RATE_SPAN = LONG ? 1 : 5;

const folderOf = fileURLToPath(new URL('../../examples/cluster/', import.meta.url));

/** Runs one of the scripts of the example. */
function script(name: string, ...argv: string[]): ChildProcess {
  const words = ['--import', import.meta.resolve('tsx'), join(folderOf, name), ...argv];
  // The client of Redis is installed here.
  return spawn(process.execPath, words, { cwd: import.meta.dirname, stdio: ['ignore', 'pipe', 'pipe'] });
}

/** The cluster that start.ts has started, until the test is over. */
class Cluster {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'sluice-cluster-'));
  url = '';
  redisPort = 0;

  static async start(t: TestContext, readers: number, rate: number): Promise<Cluster> {
    const cluster = new Cluster();
    const { folder } = cluster;
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const isCrowd = readers > MOST_OF_EXAMPLE;
    const own = isCrowd ? 0 : readers;
    const numbers = ['--port', 0, '--readers', own, '--rate', rate].map(String);
    const child = kept(
      script('start.ts', ...numbers, '--window', `${WINDOW}s`, '--folder', folder),
      'SIGTERM',
    );
    const over = once(child, 'exit');
    t.after(async () => {
      child.kill('SIGTERM');
      await over;
    });
    const said = new Reading(child.stdout!);
    const complaints = new Reading(child.stderr!);
    await said.until('/cluster\n').catch(() => assert.fail(complaints.text));
    const [, port] =
      /^open http:\/\/127\.0\.0\.1:(\d+)\/cluster\n$/.exec(said.text) ?? assert.fail(said.text);
    cluster.url = `http://127.0.0.1:${port}`;
    cluster.redisPort = Number(port) + 4;
    if (isCrowd) cluster.#startReaders(t, readers);
    await cluster.until(({ open, least }) => open === readers && least > 0);
    return cluster;
  }

  /** Those of the example do too much for each event. */
  #startReaders(t: TestContext, readers: number): void {
    const log = openSync(join(this.folder, 'readers.log'), 'a');
    const file = fileURLToPath(new URL('./helpers/light-readers.ts', import.meta.url));
    const words = ['--import', import.meta.resolve('tsx'), file, this.url, `${readers}`];
    const child = kept(spawn(process.execPath, words, { stdio: ['ignore', log, log] }));
    closeSync(log);
    t.after(() => child.kill('SIGKILL'));
  }

  /** What the readers have counted so far, second by second. */
  get counts(): Counts[] {
    const lines = this.log('readers').split('\n').slice(0, -1);
    return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  }

  log(name: string): string {
    try {
      return readFileSync(join(this.folder, `${name}.log`), 'utf8');
    } catch {
      return '';
    }
  }

  async until(holds: (counts: Counts) => boolean): Promise<Counts> {
    for (;;) {
      const newest = this.counts.at(-1);
      if (newest !== undefined && holds(newest)) return newest;
      await sleep(100);
    }
  }
}

/** Reconnects a second in each span of the counts between two times. */
function ratesOf(counts: readonly Counts[], span: number): number[] {
  return counts.flatMap((first, i) => {
    const last = counts.slice(i).find(({ at }) => at >= first.at + span * 1000 - 100);
    return last === undefined ? [] : [(1000 * (last.reconnects - first.reconnects)) / (last.at - first.at)];
  });
}

describe('the readers of the cluster', () => {
  it('notice a hole that no gap explains, and what comes twice', () => {
    const faults: Faults = { holes: 0, duplicates: 0 };
    const sequence = new Sequence(faults);
    for (const number of [7, 8]) sequence.add(number);
    assert.deepEqual(faults, { holes: 0, duplicates: 0 });
    sequence.add(11);
    assert.deepEqual(faults, { holes: 2, duplicates: 0 });
    sequence.gap();
    sequence.add(20);
    sequence.add(20);
    sequence.add(19);
    assert.deepEqual(faults, { holes: 2, duplicates: 2 });
    assert.equal(sequence.last, 20);
  });
});

describe('the cluster', () => {
  it('restarts its servers one after another without a hole, a gap or a crowd', {
    timeout: 280_000,
  }, async (t) => {
    const cluster = await Cluster.start(t, READERS, RATE);
    const before = cluster.counts.at(-1) as Counts;
    const restart = kept(script('rolling-restart.ts', '--folder', cluster.folder));
    const [said, complaints] = [new Reading(restart.stdout!), new Reading(restart.stderr!)];
    const [code] = await once(restart, 'exit');
    assert.equal(code, 0, complaints.text);
    assert.match(
      said.text,
      /^one: ends its streams\none: is back\ntwo: .*\ntwo: .*\nthree: .*\nthree: .*\n$/,
    );
    const { most } = cluster.counts.at(-1) as Counts;
    const after = await cluster.until(({ open, least }) => open === READERS && least >= most);

    const { gaps, holes, duplicates } = after;
    for (const line of cluster
      .log('readers')
      .split('\n')
      .filter((text) => text.includes('gap '))
      .slice(0, 5))
      t.diagnostic(line);
    assert.deepEqual({ gaps, holes, duplicates }, { gaps: 0, holes: 0, duplicates: 0 });
    const reconnects = after.reconnects - before.reconnects;
    assert.ok(reconnects >= READERS, `only ${reconnects} reconnects`);
    assert.deepEqual(Object.keys(after.servers).sort(), ['one', 'three', 'two']);

    const during = cluster.counts.filter(({ at }) => at >= before.at && at <= after.at);
    const mean = (1000 * reconnects) / (after.at - before.at);
    const peak = Math.max(...ratesOf(during, RATE_SPAN));
    t.diagnostic(
      `${reconnects} reconnects in ${(after.at - before.at) / 1000} s: ${mean.toFixed(1)} a second, ` +
        `${peak.toFixed(1)} in the busiest ${RATE_SPAN} s`,
    );
    assert.ok(peak <= 3 * mean, `${peak} reconnects a second, and ${mean} on average`);
  });

  it('has a page that shows it, and goes on after all servers were away', { timeout: 120_000 }, async (t) => {
    const { folder, url } = await Cluster.start(t, 10, 20);
    const browser = await launchChromium();
    t.after(() => browser.close());
    const page = await browser.newPage();
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
    const opened = await page.goto(`${url}/cluster`);
    assert.match(
      String(opened?.headers()['content-security-policy']),
      /^default-src 'none'; script-src 'self';/,
    );
    await page.waitForFunction(() => Number(document.getElementById('number')?.textContent) > 0);
    await page.waitForFunction(() => Number(document.getElementById('all-rate')?.textContent) > 0);
    assert.match(await page.locator('#server').innerText(), /^(one|two|three)$/);
    const texts = await page.locator('#one-streams, #two-streams, #three-streams').allInnerTexts();
    assert.equal(
      texts.map(Number).reduce((sum, streams) => sum + streams),
      10,
    );
    for (const id of ['gaps', 'holes', 'all-gaps', 'all-holes', 'all-duplicates'])
      assert.equal(await page.locator(`#${id}`).innerText(), '0', id);
    await isAccessible(page);
    assert.deepEqual(complaints, []);

    // All servers are away, and come back.
    const servers = Object.values(readState(folder)).map(Number);
    for (const pid of servers) process.kill(pid, 'SIGSTOP');
    // A request before both checks have found that out would wait for a server that stands still.
    await allAreDown(folder, 'ready');
    await allAreDown(folder, 'alive');
    const answer = await fetch(`${url}/events?topic=numbers`);
    assert.deepEqual([answer.status, answer.headers.get('content-type')], [200, 'text/event-stream']);
    assert.match(await answer.text(), /^retry: 1000\nevent: sluice:refused\ndata: {"error":"server-away",/);
    for (const path of ['topics/numbers', 'events?topic=numbers'])
      assert.equal((await fetch(`${url}/${path}`, { method: 'POST', body: 'x' })).status, 503);

    for (const pid of servers) process.kill(pid, 'SIGKILL');
    const newest = (): Promise<number> =>
      page.evaluate(() => Number(document.getElementById('number')?.textContent));
    const before = await newest();
    while ((await newest()) <= before + 20) await sleep(100);
    for (const id of ['gaps', 'holes']) assert.equal(await page.locator(`#${id}`).innerText(), '0', id);
    assert.ok(Number(await page.locator('#reconnects').innerText()) > 0);
  });

  it('keeps its streams and opens new ones while Redis stands still', { timeout: 120_000 }, async (t) => {
    const cluster = await Cluster.start(t, 10, 20);
    const { folder, url } = cluster;
    const redis = await processOfRedis(cluster);
    process.kill(redis, 'SIGSTOP');
    await allAreDown(folder, 'ready');

    const reader = await Reader.open(`${url}/events?topic=numbers`);
    t.after(() => reader.close());
    assert.equal(reader.status, 200);
    assert.match(String(reader.response.headers['set-cookie']), /^server=(one|two|three);/);

    process.kill(redis, 'SIGCONT');
    await reader.until(({ data }) => data.length > 0);
    const { most } = cluster.counts.at(-1) as Counts;
    const { reconnects, gaps, holes, duplicates } = await cluster.until(({ least }) => least > most);
    assert.deepEqual(
      { reconnects, gaps, holes, duplicates },
      { reconnects: 0, gaps: 0, holes: 0, duplicates: 0 },
    );
  });
});

/** Waits until the checks of a backend have found none of its servers. */
async function allAreDown(folder: string, backend: 'ready' | 'alive'): Promise<void> {
  for (;;) {
    const seen = await askHaproxy(folder, backend);
    const servers = NAMES.map((name) => seen.get(name) ?? assert.fail(`${backend} has no server ${name}`));
    if (!servers.some(({ isUp }) => isUp)) return;
    await sleep(50);
  }
}

async function processOfRedis({ redisPort }: Cluster): Promise<number> {
  const { stdout } = await promisify(execFile)('redis-cli', ['-p', `${redisPort}`, 'INFO', 'server']);
  return Number(/^process_id:(\d+)/m.exec(stdout)?.[1]);
}
