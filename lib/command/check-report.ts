// Says in lines of text what a check has found.
// Needs `../checker.ts` beside it.

import { type Finding, type FindingName, findingNames } from '../checker.ts';

/** What `sluice check --json` prints. */
export interface Result {
  readonly seed: number;
  readonly topics: readonly string[];
  /** `full`: there was more than can be held. */
  readonly ended: 'duration' | 'interrupted' | 'full';
  /** Why the check, or a part of it, could not be done. */
  readonly problem: string | undefined;
  readonly counts: {
    readonly published: number;
    readonly unknown: number;
    readonly readers: number;
    readonly events: number;
    readonly connections: number;
    readonly cuts: number;
    readonly failures: number;
    readonly gaps: number;
    readonly findings: Readonly<Record<FindingName, number>>;
  };
  readonly findings: readonly Finding[];
}

const MAX_LINES = 10;

/** A few lines: what was done, and of each kind of finding the first ones. */
export function printed({ seed, topics, ended, problem, counts, findings }: Result): string {
  const { published, unknown, readers, events, connections, cuts, failures, gaps } = counts;
  const lines = [
    `seed ${seed}${topics.length > 0 ? `, topic ${topics.join(', ')}` : ''}${ended === 'duration' ? '' : `, ${ended}`}`,
  ];
  if (published + unknown > 0) lines.push(`${published} events published, ${unknown} of unknown outcome`);
  lines.push(
    `${readers} readers received ${events} events and ${gaps} gaps over ${connections} connections`,
    `${cuts} connections were cut by the readers, ${failures} ended otherwise`,
  );
  for (const name of findingNames) {
    const some = findings.filter((finding) => finding.name === name).slice(0, MAX_LINES);
    for (const { message, ids } of some) lines.push(`${name}: ${message} (${ids.join(' … ')})`);
    const more = counts.findings[name] - some.length;
    if (more > 0) lines.push(`${name}: ${more} more`);
  }
  if (findings.length === 0 && problem === undefined) lines.push('nothing was found');
  return `${lines.join('\n')}\n`;
}
