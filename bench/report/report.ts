// Defines the result of a run of the suite, from which all reports are made.

import type { Figure, Headline, Run } from '../scenarios/scenario.ts';

export interface Report {
  readonly environment: Environment;
  /** The run was as short as possible; its figures mean nothing. */
  readonly isQuick: boolean;
  /** Why figures are missing that were asked for; `undefined` when none is. */
  readonly incomplete?: string | undefined;
  /** The scenarios that ran, in this order. */
  readonly scenarios: readonly Described[];
  /** The names of the peers in tables. */
  readonly titles: Readonly<Record<string, string>>;
  readonly skipped: readonly Skipped[];
  readonly runs: readonly Run[];
  readonly verdicts?: readonly Verdict[] | undefined;
  /** The abbreviated hash of the commit whose servers ran beside ours, as `sluice@35312b5`, for example. */
  readonly against?: string | undefined;
  /** What each peer guarantees. */
  readonly guarantees?: Guarantees | undefined;
}

export interface Described {
  readonly name: string;
  readonly constant: string;
  readonly shows: string;
  /** As in `Scenario`. */
  readonly headlines?: readonly Headline[] | undefined;
}

export interface Skipped {
  readonly scenario: string;
  readonly peer: string;
  readonly reason: string;
}

/** For each peer and feature `yes`, `no` or `by the application`; and the source. */
export type Guarantees = Readonly<Record<string, Readonly<Record<string, string>>>>;

export interface Environment {
  readonly date: string;
  readonly commit: string;
  /** Whether files differed from the commit. */
  readonly isChanged: boolean;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  /** The version of Node that ran the command and its readers. */
  readonly node: string;
  /** The Nodes under which servers and benches ran; default that one. Of several, each run names its own. */
  readonly nodes?: readonly string[] | undefined;
  /** Whether servers and readers had a core each. */
  readonly isPinned: boolean;
  /** The versions of the peers and their runtimes. */
  readonly versions: Readonly<Record<string, string>>;
}

/** Summarizes several runs, or several ratios of pairs. */
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

/** Runs with the same parameters. */
export interface Group {
  readonly scenario: string;
  readonly parameters: Run['parameters'];
  /** The peer that is the floor, where one ran. */
  readonly floor: string | undefined;
  readonly peers: readonly PeerOfGroup[];
}

export interface PeerOfGroup {
  readonly peer: string;
  readonly runs: number;
  /** Why runs have no figures. */
  readonly invalid: readonly string[];
  readonly figures: Summaries;
  /** Its figures divided by ours, and by the floor's, in pairs. */
  readonly byOurs: Summaries;
  readonly byFloor: Summaries;
}

/** Picks the runs of a peer in a scenario whose parameters include these. */
export interface Choice {
  readonly scenario: string;
  readonly peer: string;
  readonly where?: Run['parameters'] | undefined;
}

/** What a target can ask. `undefined`: it was not measured. */
export interface Measurements {
  value(choice: Choice, figure: Figure): Summary | undefined;
  /** Of pairs: runs of the same repetition. */
  ratio(top: Choice, bottom: Choice, figure: Figure): Summary | undefined;
  /** The difference between the last point of a series and the first. */
  growth(choice: Choice, series: string): Summary | undefined;
  difference(left: Choice, right: Choice, figure: Figure): Summary | undefined;
  /** The values of a parameter with which a scenario ran. */
  valuesOf(scenario: string, parameter: string): (string | number)[];
  /** Why runs of ours in a scenario have no figures. */
  invalid(scenario: string): string[];
}

export interface Verdict {
  /** The subject, and what must hold for it. */
  readonly what: string;
  readonly text: string;
  readonly figure: string;
  /** `undefined` when it was not measured. */
  readonly holds: boolean | undefined;
  /** The floor's figure in the same run. */
  readonly floor: string | undefined;
  /** The Node under which it was measured, where there were several. */
  readonly node?: string | undefined;
}
