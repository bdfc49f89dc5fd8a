// Decides what is run next, so that everything was run once before anything is run again, and time suffices.

export interface Work {
  readonly name: string;
  /** Repetitions that are wanted. */
  runs: number;
  done: number;
  /** Seconds of one repetition: guessed first, then measured. */
  seconds: number;
}

/** What one repetition with one peer takes on two cores, until it was measured. */
const GUESSES: Readonly<Record<string, number>> = {
  micro: 60,
  fanout: 4,
  latency: 8,
  idle: 19,
  stalled: 15,
  stalled10k: 50,
  llm: 6,
  storm: 25,
  connect: 6,
  heartbeat: 26,
  scale: 12,
  topics: 18,
  gzip: 15,
  drain: 20,
};

export function guess(scenario: string, peers: number, isQuick: boolean): number {
  const seconds = GUESSES[scenario] ?? 10;
  return seconds * (scenario === 'micro' ? 1 : peers) * (isQuick ? 0.3 : 1);
}

/** @param left seconds. What was run least comes next, if it will be over in time. */
export function nextOf<T extends Work>(works: readonly T[], left: number): T | undefined {
  const wanted = works.filter(({ done, runs, seconds }) => done < runs && seconds <= left);
  const fewest = Math.min(...wanted.map(({ done }) => done));
  return wanted.find(({ done }) => done === fewest);
}

/** Seconds until there is nothing left to run. */
export function expected(works: readonly Work[], left: number): number {
  const all = works.map((work) => ({ ...work }));
  let total = 0;
  for (let next = nextOf(all, left); next !== undefined; next = nextOf(all, left - total)) {
    next.done++;
    total += next.seconds;
  }
  return total;
}
