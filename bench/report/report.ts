// What a run of the suite is, once it is over: everything that the reports are made of.

import type { Figure, Run } from '../scenarios/scenario.ts';

export interface Report {
  readonly environment: Environment;
  /** As short as could be: no figure to believe. */
  readonly isQuick: boolean;
  /** The scenarios that were run, in this order. */
  readonly scenarios: readonly Described[];
  /** How the peers are called in tables. */
  readonly titles: Readonly<Record<string, string>>;
  readonly skipped: readonly Skipped[];
  readonly runs: readonly Run[];
  readonly verdicts?: readonly Verdict[] | undefined;
  /** The abbreviated hash of the commit whose servers ran beside ours: as `sluice@35312b5`, for example. */
  readonly against?: string | undefined;
  /** What each peer takes upon itself, by its name and the feature's. */
  readonly guarantees?: Guarantees | undefined;
}

export interface Described {
  readonly name: string;
  readonly constant: string;
  readonly shows: string;
}

export interface Skipped {
  readonly scenario: string;
  readonly peer: string;
  readonly reason: string;
}

/** For each server, each feature: `yes`, `no`, `by the application`; and where that is from. */
export type Guarantees = Readonly<Record<string, Readonly<Record<string, string>>>>;

export interface Environment {
  readonly date: string;
  readonly commit: string;
  /** Files differed from the commit's. */
  readonly isChanged: boolean;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly node: string;
  /** Whether servers and readers had a core each. */
  readonly isPinned: boolean;
  /** Of the peers, and of what they run on. */
  readonly versions: Readonly<Record<string, string>>;
}

/** Several runs of the same, or several ratios of pairs. */
export interface Summary {
  readonly count: number;
  readonly median: number;
  /** Quartiles. */
  readonly q1: number;
  readonly q3: number;
  /** The median's 95 % confidence interval. */
  readonly low: number;
  readonly high: number;
}

export type Summaries = Readonly<Partial<Record<Figure, Summary>>>;

/** What was measured with the same parameters. */
export interface Group {
  readonly scenario: string;
  readonly parameters: Run['parameters'];
  /** The peer that is the least there can be, where one was run. */
  readonly floor: string | undefined;
  readonly peers: readonly PeerOfGroup[];
}

export interface PeerOfGroup {
  readonly peer: string;
  readonly runs: number;
  /** Why runs are without figures. */
  readonly invalid: readonly string[];
  readonly figures: Summaries;
  /** Its figures by ours, and by the floor's: ratios of pairs. */
  readonly byOurs: Summaries;
  readonly byFloor: Summaries;
}

/** Picks runs: those of a peer in a scenario, whose parameters are, among others, these. */
export interface Choice {
  readonly scenario: string;
  readonly peer: string;
  readonly where?: Run['parameters'] | undefined;
}

/** What a target asks. `undefined` is what was not measured. */
export interface Measurements {
  value(choice: Choice, figure: Figure): Summary | undefined;
  /** Of pairs: runs of the same repetition. */
  ratio(top: Choice, bottom: Choice, figure: Figure): Summary | undefined;
  /** From the first point of a series to the last. */
  growth(choice: Choice, series: string): Summary | undefined;
  difference(left: Choice, right: Choice, figure: Figure): Summary | undefined;
  /** The values of a parameter with which a scenario was run. */
  valuesOf(scenario: string, parameter: string): (string | number)[];
  /** Why runs of ours in a scenario have no figures. */
  invalid(scenario: string): string[];
}

export interface Verdict {
  /** The subject, and what must hold of it. */
  readonly what: string;
  readonly text: string;
  readonly figure: string;
  /** `undefined` when it was not measured. */
  readonly holds: boolean | undefined;
  /** What the least that there can be did, in the same run. */
  readonly floor: string | undefined;
}
