import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { afterEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type SystemSample, SystemSampler } from '../../lib/command/system.ts';
import { fakeTime } from '../helpers/clock.ts';

const open: SystemSampler[] = [];
function sampler(): SystemSampler {
  const made = new SystemSampler();
  open.push(made);
  return made;
}
afterEach(() => {
  for (const made of open.splice(0)) made.close();
});

/** Resolves when the timer that measures delays has run again. */
async function ticked(system: SystemSampler): Promise<SystemSample> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    const sample = system.sample();
    if (sample.eventLoop.maxMs !== null) return sample;
  }
}

describe('SystemSampler', () => {
  it('gives figures that survive JSON', async () => {
    const sample = await ticked(sampler());
    assert.deepEqual(JSON.parse(JSON.stringify(sample)), sample);
    assert.equal(new Date(sample.time).toISOString(), sample.time);
    const { host, process: own } = sample;
    for (const value of [...Object.values(host), ...Object.values(own), ...Object.values(sample.eventLoop)]) {
      assert.ok(value === null || value >= 0, JSON.stringify(sample));
    }
    assert.equal(host.memoryTotalBytes, totalmem());
    assert.ok(host.memoryAvailableBytes < host.memoryTotalBytes);
    assert.ok(own.heapUsedBytes <= own.heapTotalBytes && own.heapTotalBytes < own.rssBytes);
    assert.ok(own.uptimeSeconds <= host.uptimeSeconds);
  });

  it('counts memory that the system could free as available', {
    skip: process.platform !== 'linux',
  }, () => {
    const kilobytes = /^MemAvailable: +(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'));
    const { memoryAvailableBytes, memoryTotalBytes } = sampler().sample().host;
    const difference = Math.abs(memoryAvailableBytes - Number(kilobytes?.[1]) * 1024);
    assert.ok(difference < memoryTotalBytes / 20, `${difference} bytes apart`);
  });

  it('measures the CPU time since the previous sample', (t) => {
    const clock = fakeTime(t);
    let user = 5_000_000;
    t.mock.method(process, 'cpuUsage', () => ({ user, system: 0 }));
    const system = sampler();
    user += 60_000;
    clock.advance(60);
    assert.equal(system.sample().process.cpuPercent, 100);
    user += 30_000;
    clock.advance(120);
    assert.equal(system.sample().process.cpuPercent, 25);
    clock.advance(60);
    assert.equal(system.sample().process.cpuPercent, 0);
  });

  it('reports a blocked event loop in one sample', (t) => {
    const clock = fakeTime(t);
    const system = sampler();
    clock.advance(100);
    clock.hang(150);
    clock.advance(100);
    const { p50Ms, p99Ms, maxMs } = system.sample().eventLoop;
    // It was due 10 ms after the last time that it ran.
    assert.ok(Math.abs(maxMs! - 140) <= 1, `${maxMs}`);
    assert.ok(p50Ms! <= p99Ms! && p50Ms! < 1, `${p50Ms} ${p99Ms}`);
    clock.advance(100);
    assert.ok(system.sample().eventLoop.maxMs! < 1);
  });

  it('does not count the interval of its timer as delay', (t) => {
    const clock = fakeTime(t);
    const system = sampler();
    clock.advance(1000);
    assert.ok(system.sample().eventLoop.maxMs! < 1);
  });

  it('gives null for an event loop that has not turned', () => {
    const system = sampler();
    system.sample();
    assert.deepEqual(system.sample().eventLoop, { p50Ms: null, p99Ms: null, maxMs: null });
  });

  it('gives finite figures for samples without time between them', () => {
    const system = sampler();
    for (let i = 0; i < 50; i += 1) {
      const { host, process: own } = system.sample();
      assert.ok(Number.isFinite(own.cpuPercent));
      assert.ok(host.cpuPercent === null || Number.isFinite(host.cpuPercent));
    }
  });

  it('still samples after `close()`, except the event loop', () => {
    const system = sampler();
    system.close();
    system.close();
    const sample = system.sample();
    assert.ok(sample.process.rssBytes > 0);
    assert.equal(sample.eventLoop.maxMs, null);
  });

  it('lets the process end without `close()`', () => {
    const script = `
      import { SystemSampler } from ${JSON.stringify(new URL('../../lib/command/system.ts', import.meta.url).href)};
      console.log(typeof new SystemSampler().sample().time);`;
    const output = execFileSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      cwd: fileURLToPath(new URL('..', import.meta.url)),
      encoding: 'utf8',
      timeout: 60_000,
    });
    assert.equal(output, 'string\n');
  });
});
