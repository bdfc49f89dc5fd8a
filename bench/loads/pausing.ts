// Publishes events at an even rate to a hub whose history is full, serves them over HTTP, and reports each
// collection of garbage and the delay of the event loop. `pauses.ts` starts it, compiled by `plain.ts`, and
// talks with it over Node's IPC; its argument is a `PausingOrder` as JSON. See `Said` for what it sends; it is
// told `begin`, and `end` when no more is to be published.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  constants,
  createHistogram,
  type PerformanceEntry,
  PerformanceObserver,
  type RecordableHistogram,
} from 'node:perf_hooks';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { now, textOf } from './texts.ts';

export interface PausingOrder {
  /** The URL of the compiled folder `lib/` to run, of this checkout or of another commit. */
  readonly lib: string;
  /** Bytes of history on the wire, of all topics together. */
  readonly history: number;
  readonly topics: number;
  /** Events a second. */
  readonly rate: number;
  /** Of each event's data. */
  readonly bytes: number;
  /** Milliseconds: longer delays are counted. */
  readonly limit: number;
}

export type Said = Ready | Traced | Over;

/** The history is full, and the garbage of filling it is collected. */
export interface Ready {
  readonly say: 'ready';
  readonly port: number;
  /** How many events are remembered. */
  readonly events: number;
  readonly memory: Memory;
  readonly far: Place;
}

/** Sent once a second. */
export interface Traced {
  readonly say: 'trace';
  readonly lines: readonly TraceLine[];
  readonly far: Place;
}

/** The last one. */
export interface Over {
  readonly say: 'over';
  readonly published: number;
  readonly delay: Delay;
}

/** Far behind in the history, and remembered for more than a second. */
export interface Place {
  readonly id: string;
  /** How many events each topic has after it, at least. */
  readonly events: number;
}

export type TraceLine = Collection | Second;

export interface Collection {
  readonly what: 'gc';
  /** Milliseconds since publishing began. */
  readonly at: number;
  readonly kind: string;
  readonly milliseconds: number;
}

export interface Second {
  readonly what: 'second';
  readonly at: number;
  readonly published: number;
  readonly delay: Delay;
  readonly memory: Memory;
}

/** Milliseconds by which the timer that publishes ran late. */
export interface Delay {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** How many were longer than `PausingOrder.limit`. */
  readonly over: number;
}

export interface Memory {
  readonly rss: number;
  readonly heapUsed: number;
  readonly external: number;
}

const KINDS: Readonly<Record<number, string>> = {
  [constants.NODE_PERFORMANCE_GC_MINOR]: 'minor',
  [constants.NODE_PERFORMANCE_GC_MAJOR]: 'major',
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL]: 'incremental',
  [constants.NODE_PERFORMANCE_GC_WEAKCB]: 'weak callbacks',
};

/** Named by each id, so that an id can be made for any place. */
const EPOCH = 1795408776829004;

const order = JSON.parse(process.argv[2]!) as PausingOrder;
const { Hub } = (await import(`${order.lib}/hub.js`)) as typeof import('../../lib/hub.ts');
const { openStream } = (await import(`${order.lib}/stream.js`)) as typeof import('../../lib/stream.ts');

const hub = new Hub({
  epoch: EPOCH,
  history: { maxEvents: Infinity, maxBytes: Math.ceil(order.history / order.topics) },
  maxHistoryBytes: Infinity,
});
let published = 0;

/** Goes round the topics; each counts its own events from 1. */
function publish(due: number): void {
  const [topic, seq] = [published % order.topics, Math.floor(published / order.topics) + 1];
  hub.publish(`t${topic}`, { data: textOf(seq, due, order.bytes) });
  published++;
}

/** Publishes until the history is full. @returns how many events are then remembered. */
async function fill(): Promise<number> {
  while (hub.stats.publishedBytes < order.history) {
    for (let i = 0; i < 1000; i++) publish(now());
    await nextTurn();
  }
  return Math.floor((order.history / hub.stats.publishedBytes) * published);
}

// ── the event loop ──────────────────────────────────────────────────────────────────────────────────────

/** Collects delays in microseconds. */
class Delays {
  readonly #histogram: RecordableHistogram = createHistogram();
  #over = 0;

  record(microseconds: number): void {
    this.#histogram.record(Math.max(1, Math.round(microseconds)));
    if (microseconds > order.limit * 1000) this.#over++;
  }

  get summary(): Delay {
    const { count, max } = this.#histogram;
    const at = (percent: number) => (count === 0 ? 0 : this.#histogram.percentile(percent) / 1000);
    return { count, p50: at(50), p99: at(99), max: count === 0 ? 0 : max / 1000, over: this.#over };
  }
}

const total = new Delays();
let second = new Delays();

/** Publishes each millisecond what is due by then. @returns a function that stops it. */
function publishEvenly(begin: number): () => void {
  const before = published;
  let due = begin;
  let timer: NodeJS.Timeout;
  const tick = () => {
    const time = now();
    for (const delays of [total, second]) delays.record(time - due);
    // An event is due at its own time, so that its latency counts from there, whether or not this is late.
    const owed = Math.floor(((time - begin) * order.rate) / 1e6);
    while (published - before < owed) publish(begin + ((published - before + 1) * 1e6) / order.rate);
    due = now() + 1000;
    timer = setTimeout(tick, 1);
  };
  tick();
  return () => clearTimeout(timer);
}

// ── what happens ────────────────────────────────────────────────────────────────────────────────────────

const say = (said: Said) => void process.send!(said);

/** Nine tenths of the history lie after it, or less where that would be dropped within two seconds. */
function farBehind(events: number): Place {
  const after = Math.max(0, Math.floor(Math.min(events * 0.9, events - 2 * order.rate)));
  return { id: `${EPOCH}-${published - after}`, events: Math.floor(after / order.topics) };
}

function memory(): Memory {
  const { rss, heapUsed, external } = process.memoryUsage();
  return { rss, heapUsed, external };
}

function observe(events: number): () => void {
  const before = published;
  const begin = now();
  const since = performance.now();
  const lines: TraceLine[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const { startTime, duration, detail } = entry as PerformanceEntry & { detail: { kind: number } };
      const { kind } = detail;
      const collection = { at: startTime - since, kind: KINDS[kind] ?? `${kind}`, milliseconds: duration };
      lines.push({ what: 'gc', ...collection });
    }
  });
  observer.observe({ entryTypes: ['gc'] });
  const stop = publishEvenly(begin);
  const tell = () => {
    const at = performance.now() - since;
    const delay = second.summary;
    second = new Delays();
    lines.push({ what: 'second', at, published: published - before, delay, memory: memory() });
    say({ say: 'trace', lines: lines.splice(0), far: farBehind(events) });
  };
  const timer = setInterval(tell, 1000);
  tell();
  return () => {
    stop();
    clearInterval(timer);
    // The observer is called in a turn of its own.
    setTimeout(() => {
      tell();
      say({ say: 'over', published: published - before, delay: total.summary });
    }, 100);
  };
}

const remembered = await fill();
for (let i = 0; i < 2; i++) globalThis.gc?.();
const server = createServer({ highWaterMark: 64 * 1024 }, (req, res) => {
  const topics = new URLSearchParams(req.url?.split('?')[1]).getAll('topic');
  hub.subscribe(topics, openStream(req, res), { lastEventId: req.headers['last-event-id'] });
}).listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo;
  say({ say: 'ready', port, events: remembered, memory: memory(), far: farBehind(remembered) });
});

let end: (() => void) | undefined;
process.on('message', (told) => {
  if (told === 'begin') end = observe(remembered);
  if (told === 'end') end?.();
});
process.on('disconnect', () => process.exit());
