// Holds what a judgement of streams has found: some of it, and how much there is of each kind.
// Stands alone: copy this file by itself.

/** The names of what can be wrong. */
export const findingNames = [
  /** An event was delivered to others, and neither to this reader nor within a gap of it. */
  'silent-hole',
  /** A reader received an event twice. */
  'duplicate',
  /** A reader received an event after a later one. */
  'reorder',
  /** A reader received an event that nobody published, or that the uncut reader did not receive. */
  'phantom',
  /** One event has two ids, or one id has two events. */
  'inconsistent-id',
  /** The publisher was given an id, and no reader was given the event. */
  'lost-write',
  /** A reader had not received the newest events when it was stopped. */
  'unseen-tail',
  /** A gap covers an event that its reader received, or none at all. */
  'false-gap',
  /** A gap for which there was no cause: by its reason, or where it begins. */
  'unexplained-gap',
] as const;

export type FindingName = (typeof findingNames)[number];

export interface Finding {
  readonly name: FindingName;
  readonly reader: string;
  /** Of the events concerned: the first and the last of a run. */
  readonly ids: readonly string[];
  readonly message: string;
}

export interface Verdict {
  readonly findings: readonly Finding[];
  /** How many there are of each name, those that are not listed included. */
  readonly counts: Readonly<Record<FindingName, number>>;
}

// More tell nothing new.
const MAX_FINDINGS = 100;

/** Holds a bounded number of findings, and counts all. */
export class Findings implements Verdict {
  readonly findings: Finding[] = [];
  readonly counts: Record<FindingName, number>;

  constructor() {
    const zeros = findingNames.map((name) => [name, 0]);
    this.counts = Object.fromEntries(zeros) as Record<FindingName, number>;
  }

  /** To go on from, without these. */
  copy(): Findings {
    const copy = new Findings();
    copy.findings.push(...this.findings);
    Object.assign(copy.counts, this.counts);
    return copy;
  }

  readonly add = (name: FindingName, reader: string, ids: readonly string[], message: string): void => {
    if (++this.counts[name] > MAX_FINDINGS) return;
    const shown = ids.map((id) => id.slice(0, 200));
    this.findings.push({ name, reader, ids: shown, message: `${reader}: ${message}` });
  };
}
