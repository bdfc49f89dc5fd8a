// Measures this host, this process and its event loop, from one sample to the next.
// Stands alone: copy this file by itself.

import { cpus, freemem, loadavg, totalmem, uptime } from 'node:os';
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';

/** Plain data for JSON. Names end in their unit. A figure that is not available is `null`. */
export interface SystemSample {
  /** The time of the sample: ISO 8601, UTC. */
  readonly time: string;
  readonly host: {
    readonly cpus: number;
    /**
     * Of all CPUs together: 100 when none was idle. `null` where the counters of the system have not changed.
     */
    readonly cpuPercent: number | null;
    /** Average number of processes that run or wait to run, over 1, 5 and 15 minutes. Always 0 on Windows. */
    readonly load1: number;
    readonly load5: number;
    readonly load15: number;
    readonly memoryTotalBytes: number;
    /** Memory that can be allocated without swapping: `MemAvailable` on Linux, not only free memory. */
    readonly memoryAvailableBytes: number;
    readonly uptimeSeconds: number;
  };
  readonly process: {
    /** Of one CPU: 200 when threads keep two CPUs busy. */
    readonly cpuPercent: number;
    readonly rssBytes: number;
    readonly heapUsedBytes: number;
    readonly heapTotalBytes: number;
    /** Memory of Buffers, outside the heap. */
    readonly arrayBuffersBytes: number;
    readonly uptimeSeconds: number;
  };
  /**
   * How late timers ran since the last sample. `null` if none ran: the time was too short, or the event loop
   * was blocked throughout.
   */
  readonly eventLoop: {
    readonly p50Ms: number | null;
    readonly p99Ms: number | null;
    readonly maxMs: number | null;
  };
}

/**
 * Takes a sample with each `sample()`. Averages and percentiles cover the time since the previous sample, or
 * since construction. A timer runs every 10 ms until `close()`; it does not keep the process running.
 *
 *     const sampler = new SystemSampler();
 *     setInterval(() => hub.publish('system', { data: JSON.stringify(sampler.sample()) }), 1000);
 */
export class SystemSampler {
  readonly #delays: RecordableHistogram = createHistogram();
  readonly #timer: NodeJS.Timeout;
  #then: Counters = readCounters();

  constructor() {
    // Does not use `monitorEventLoopDelay`, which ignores the first tick after each `reset`, whatever its
    // delay.
    let due = performance.now() + TICK_INTERVAL;
    this.#timer = setInterval(() => {
      const now = performance.now();
      this.#delays.record(Math.max(1, Math.round((now - due) * 1e6)));
      due = now + TICK_INTERVAL;
    }, TICK_INTERVAL).unref();
  }

  sample(): SystemSample {
    const then = this.#then;
    const now = readCounters();
    this.#then = now;
    return {
      time: new Date().toISOString(),
      host: hostSample(then, now),
      process: processSample(then, now),
      eventLoop: this.#takeDelays(),
    };
  }

  /** Ends the timer. Later samples have no figures for the event loop. */
  close(): void {
    clearInterval(this.#timer);
    this.#delays.reset();
  }

  #takeDelays(): SystemSample['eventLoop'] {
    const delays = this.#delays;
    const ms = (ns: number): number | null => (delays.count === 0 ? null : rounded(ns / 1e6, 1000));
    const sample = {
      p50Ms: ms(delays.percentile(50)),
      p99Ms: ms(delays.percentile(99)),
      maxMs: ms(delays.max),
    };
    delays.reset();
    return sample;
  }
}

const TICK_INTERVAL = 10;

interface Counters {
  readonly atMs: number;
  readonly cpus: number;
  readonly hostMs: number;
  readonly hostIdleMs: number;
  readonly processMs: number;
}

function readCounters(): Counters {
  let hostMs = 0;
  let hostIdleMs = 0;
  const all = cpus();
  for (const { times } of all) {
    hostMs += times.user + times.nice + times.sys + times.irq + times.idle;
    hostIdleMs += times.idle;
  }
  const { user, system } = process.cpuUsage();
  return { atMs: performance.now(), cpus: all.length, hostMs, hostIdleMs, processMs: (user + system) / 1000 };
}

function hostSample(then: Counters, now: Counters): SystemSample['host'] {
  const [load1, load5, load15] = loadavg() as [number, number, number];
  const passed = now.hostMs - then.hostMs;
  const busy = passed - (now.hostIdleMs - then.hostIdleMs);
  return {
    cpus: now.cpus,
    cpuPercent: passed > 0 ? rounded(Math.min(100, Math.max(0, (100 * busy) / passed)), 10) : null,
    load1: rounded(load1, 100),
    load5: rounded(load5, 100),
    load15: rounded(load15, 100),
    memoryTotalBytes: totalmem(),
    memoryAvailableBytes: freemem(),
    uptimeSeconds: Math.floor(uptime()),
  };
}

function processSample(then: Counters, now: Counters): SystemSample['process'] {
  const { rss, heapUsed, heapTotal, arrayBuffers } = process.memoryUsage();
  const passed = Math.max(0.001, now.atMs - then.atMs);
  return {
    cpuPercent: rounded((100 * (now.processMs - then.processMs)) / passed, 10),
    rssBytes: rss,
    heapUsedBytes: heapUsed,
    heapTotalBytes: heapTotal,
    arrayBuffersBytes: arrayBuffers,
    uptimeSeconds: Math.floor(process.uptime()),
  };
}

function rounded(value: number, parts: number): number {
  return Math.round(value * parts) / parts;
}
