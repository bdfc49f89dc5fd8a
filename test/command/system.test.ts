import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { afterEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type SystemSample, SystemSampler } from '../../lib/command/system.ts';

const open: SystemSampler[] = [];
function sampler(): SystemSampler {
  const made = new SystemSampler();
  open.push(made);
  return made;
}
afterEach(() => {
  for (const made of open.splice(0)) made.close();
});

function block(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

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

  it('measures the CPU time since the previous sample', () => {
    const system = sampler();
    block(60);
    const busy = system.sample();
    assert.ok(busy.process.cpuPercent > 1, `${busy.process.cpuPercent} %`);
    assert.ok(busy.host.cpuPercent === null || busy.host.cpuPercent <= 100);
    const before = process.cpuUsage();
    const at = performance.now();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60); // asleep
    const idle = system.sample();
    const { user, system: sys } = process.cpuUsage(before);
    const spent = (100 * (user + sys)) / 1000 / (performance.now() - at);
    assert.ok(idle.process.cpuPercent <= spent + 20, `${idle.process.cpuPercent} % of ${spent} %`);
  });

  it('reports a blocked event loop in one sample', async () => {
    const system = sampler();
    await ticked(system);
    block(150);
    const blocked = await ticked(system);
    assert.ok(blocked.eventLoop.maxMs! >= 120, `${blocked.eventLoop.maxMs} ms`);
    assert.ok(blocked.eventLoop.p50Ms! <= blocked.eventLoop.p99Ms!);
    let calm = await ticked(system);
    for (let i = 0; i < 50 && calm.eventLoop.maxMs! >= 120; i += 1) calm = await ticked(system);
    assert.ok(calm.eventLoop.maxMs! < 120, `${calm.eventLoop.maxMs} ms`);
  });

  it('does not count the interval of its timer as delay', async () => {
    const system = sampler();
    const delays: number[] = [];
    for (let i = 0; i < 20; i += 1) delays.push((await ticked(system)).eventLoop.p50Ms!);
    assert.ok(Math.min(...delays) < 5, `${delays}`);
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
