// What it costs to let a connection in and out again, beside a number that is counted up and down.
//   npx tsx bench/limiter.bench.ts

import { EventEmitter } from 'node:events';
import { type LimitOptions, type LimitResponse, limitConnections, Semaphore } from '../lib/limiter.ts';
import { type Effort, type Measurement, measure, measureInTurns, runAlone } from './harness.ts';

const BATCH = 1000;

function permits(): () => number {
  const semaphore = new Semaphore(BATCH);
  return () => {
    for (let i = 0; i < BATCH; i++) semaphore.tryAcquire()!();
    return BATCH;
  };
}

/** The least that gives a permit which can be given back once. */
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

/** As many connections as there are clients, each opened and closed again. */
function connections(clients: number, options: LimitOptions): () => number {
  const limit = limitConnections({ max: BATCH, maxPerKey: 100, ...options });
  const requests = Array.from({ length: BATCH }, (_, i) => ({
    method: 'GET',
    httpVersionMajor: 1,
    headers: {},
    socket: Object.assign(new EventEmitter(), {
      remoteAddress: `10.0.${(i % clients) >> 8}.${(i % clients) & 255}`,
      destroyed: false,
    }),
  }));
  let entered = 0;
  return () => {
    const responses = requests.map((request) => {
      const response = new EventEmitter();
      limit(request, isResponse(response), () => entered++);
      return response;
    });
    for (const response of responses) response.emit('close');
    for (const { socket } of requests) socket.removeAllListeners();
    if (entered % BATCH !== 0 || entered === 0) throw new Error('somebody was not let in');
    return BATCH;
  };
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
  ];
}

await runAlone(import.meta.url, bench);
