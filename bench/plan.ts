// Decides what runs next: everything runs once before anything runs again, and nothing starts that would end
// too late.

export interface Work {
  readonly name: string;
  /** Repetitions to do. */
  runs: number;
  done: number;
  /** Seconds of one repetition: guessed first, then measured. */
  seconds: number;
}

/** Seconds of one repetition with one peer on two cores, until it has been measured. */
const GUESSES: Readonly<Record<string, number>> = {
  micro: 90,
  fanout: 4,
  latency: 8,
  idle: 19,
  stalled: 15,
  stalled10k: 50,
  llm: 11,
  storm: 40,
  connect: 6,
  heartbeat: 26,
  scale: 12,
  topics: 34,
  gzip: 15,
  drain: 20,
  redis: 9,
  'redis-latency': 16,
  'redis-memory': 8,
  follow: 14,
  workers: 16,
};

export function guess(scenario: string, peers: number, isQuick: boolean): number {
  const seconds = GUESSES[scenario] ?? 10;
  return seconds * (scenario === 'micro' ? 1 : peers) * (isQuick ? 0.3 : 1);
}

/** The work with the fewest repetitions that will end in time. @param left seconds. */
export function nextOf<T extends Work>(works: readonly T[], left: number): T | undefined {
  const wanted = works.filter(({ done, runs, seconds }) => done < runs && seconds <= left);
  const fewest = Math.min(...wanted.map(({ done }) => done));
  return wanted.find(({ done }) => done === fewest);
}

/** Seconds that the remaining works take. */
export function expected(works: readonly Work[], left: number): number {
  const all = works.map((work) => ({ ...work }));
  let total = 0;
  for (let next = nextOf(all, left); next !== undefined; next = nextOf(all, left - total)) {
    next.done++;
    total += next.seconds;
  }
  return total;
}
