// What finding a route costs, beside a `Map` look-up of the whole path.
//   npx tsx bench/router.bench.ts

import { Router } from '../lib/router.ts';
import { type Effort, type Measurement, measure, measureInTurns, runAlone } from './harness.ts';

const BATCH = 1000;
const routes = Array.from({ length: 100 }, (_, i) => `/section${i % 10}/part${i}`);

export function bench(effort: Effort): Measurement[] {
  const router = new Router<number>();
  const map = new Map<string, number>();
  for (const [i, path] of routes.entries()) {
    router.add('GET', path, i).add('GET', `${path}/:name/events`, i);
    map.set(`GET ${path}`, i);
  }
  let found = 0;
  const each = (find: (i: number) => number) => () => {
    for (let i = 0; i < BATCH; i++) found += find(i);
    return BATCH;
  };
  const named = routes.map((path, i) => `${path}/room%20${i}/events?from=here`);
  const [plain, literal] = measureInTurns(
    [
      each((i) => map.get(`GET ${routes[i % 100]}`)!),
      each((i) => router.find('GET', routes[i % 100]!).status),
    ],
    effort,
  );
  const parameter = measure(
    each((i) => router.find('GET', named[i % 100]!).status),
    effort,
  );
  const missing = measure(
    each((i) => router.find('GET', `/section1/nothing${i}`).status),
    effort,
  );
  if (found === 0) throw new Error('nothing was found');
  const of = (name: string, value: number, peer = 'sluice'): Measurement => ({
    case: `${name}, of 200 routes`,
    peer,
    figure: 'nanoseconds',
    value,
  });
  return [
    of('find a path', plain!, 'map'),
    of('find a path', literal!),
    of('find a path with a parameter', parameter),
    of('find nothing', missing),
  ];
}

await runAlone(import.meta.url, bench);
