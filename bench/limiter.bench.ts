// What admitting and releasing a connection costs, beside a counter that goes up and down.
//   npx tsx bench/limiter.bench.ts

import { EventEmitter } from 'node:events';
import { type LimitOptions, type LimitResponse, limitConnections } from '../lib/limiter.ts';
import { Semaphore } from '../lib/semaphore.ts';
import { type Effort, heldBytes, type Measurement, measure, measureInTurns, runAlone } from './harness.ts';

const BATCH = 1000;

function permits(): () => number {
  const semaphore = new Semaphore(BATCH);
  return () => {
    for (let i = 0; i < BATCH; i++) semaphore.tryAcquire()!.release();
    return BATCH;
  };
}

/** The least code that gives permits of which each can be released once. */
function counting(): () => number {
  let taken = 0;
  const acquire = () => {
    let isOver = false;
    taken++;
    return () => {
      if (isOver) return;
      isOver = true;
      taken--;
    };
  };
  return () => {
    for (let i = 0; i < BATCH; i++) acquire()();
    if (taken !== 0) throw new Error('a permit was lost');
    return BATCH;
  };
}

function isResponse(response: EventEmitter): LimitResponse {
  return Object.assign(response, {
    headersSent: false,
    writableEnded: false,
    writeHead: () => response,
    end: () => response,
    destroy: () => response,
  });
}

function requestsOf(count: number, clients: number) {
  return Array.from({ length: count }, (_, i) => ({
    method: 'GET',
    httpVersionMajor: 1,
    headers: {},
    socket: Object.assign(new EventEmitter(), {
      remoteAddress: `10.0.${(i % clients) >> 8}.${(i % clients) & 255}`,
      destroyed: false,
    }),
  }));
}

/** Opens and closes `BATCH` connections of so many clients. */
function connections(clients: number, options: LimitOptions): () => number {
  const limit = limitConnections({ maxConnections: BATCH, maxPerKey: 100, ...options });
  const requests = requestsOf(BATCH, clients);
  let entered = 0;
  return () => {
    const responses = requests.map((request) => {
      const response = new EventEmitter();
      limit(request, isResponse(response), () => entered++);
      return response;
    });
    for (const response of responses) response.emit('close');
    for (const { socket } of requests) socket.removeAllListeners();
    if (entered % BATCH !== 0 || entered === 0) throw new Error('a connection was refused');
    return BATCH;
  };
}

/**
 * Heap bytes that the limiter holds for an open connection, without the arrays in which emitters keep
 * listeners.
 */
function bytesPerConnection(): number {
  const count = 20_000;
  const limit = limitConnections({ maxConnections: count });
  const requests = requestsOf(count, 10);
  const responses = requests.map(() => isResponse(withListeners(new EventEmitter())));
  for (const { socket } of requests) withListeners(socket);
  return heldBytes(count, () => {
    for (const [i, request] of requests.entries()) limit(request, responses[i]!, () => {});
    if (limit.stats.open !== count) throw new Error('a connection was refused');
    return responses;
  });
}

/** Three listeners make the emitter allocate an array with room for more. */
function withListeners<T extends EventEmitter>(emitter: T): T {
  const ignore = () => {};
  for (const event of ['end', 'close']) for (let i = 0; i < 3; i++) emitter.on(event, ignore);
  return emitter;
}

export function bench(effort: Effort): Measurement[] {
  const of = (name: string, value: number, peer = 'sluice'): Measurement => ({
    case: name,
    peer,
    figure: 'nanoseconds',
    value,
  });
  const [counter, semaphore] = measureInTurns([counting(), permits()], effort);
  return [
    of('a permit, taken and given back', counter!, 'counter'),
    of('a permit, taken and given back', semaphore!),
    of('a connection of 1,000 clients, opened and closed', measure(connections(1000, {}), effort)),
    of('a connection of 10 clients, opened and closed', measure(connections(10, {}), effort)),
    of(
      'a connection with a rate, opened and closed',
      measure(connections(1000, { rate: 1e9, burst: 1e9 }), effort),
    ),
    // Last: what it leaves for the collector would slow the others down.
    { case: 'an open connection', peer: 'sluice', figure: 'heapBytes', value: bytesPerConnection() },
  ];
}

await runAlone(import.meta.url, bench);
