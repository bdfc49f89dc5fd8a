// The contract of logs as a list of tests: what a hub relies on, for those who write a log of their own.
// Needs `log-rules.ts`, `log-rules-hub.ts`, `log-rules-own.ts`, `log-rules-shared.ts` and `log-trial.ts`
// beside it.

import { logRules } from './log-rules.ts';
import { hubRules } from './log-rules-hub.ts';
import { ownRules } from './log-rules-own.ts';
import { sharedRules } from './log-rules-shared.ts';
import { type LogHarness, type LogNeed, type Rule, Trial } from './log-trial.ts';

export type { LogFaults, LogHarness, LogNeed } from './log-trial.ts';

/** One sentence that holds for every log of an order, and a test of it. */
export interface LogClause {
  /** What it is a part of, such as `no hole unsaid`. */
  readonly property: string;
  /** The sentence. No two clauses have the same. */
  readonly title: string;
  /** Rejects where the sentence does not hold. Each run has a store of its own. */
  run(): Promise<void>;
}

/** A clause that cannot be tried, because the harness does not have what it needs. */
export interface UncoveredClause extends Pick<LogClause, 'property' | 'title'> {
  readonly needs: readonly LogNeed[];
}

export interface LogContractOptions {
  /**
   * Called once with the clauses that are not tried because something is missing, also where there are none. By
   * default each of them is printed as a warning.
   */
  onUncovered?: ((clauses: readonly UncoveredClause[]) => void) | undefined;
  /** Milliseconds after which something that should happen counts as missing; default 5,000. */
  patience?: number | undefined;
}

/**
 * Lists the clauses for a log, to be run by any test runner:
 *
 *     for (const { title, run } of logContract(harness)) test(title, run);
 *
 * @throws {TypeError} for an `order` that there is not.
 */
export function logContract<Store>(
  harness: LogHarness<Store>,
  options: LogContractOptions = {},
): readonly LogClause[] {
  const { onUncovered = warn, patience = 5000 } = options;
  const { order, faults = {}, recall = false } = harness;
  const rules = [...logRules, ...ownRules, ...sharedRules, ...hubRules].filter(({ orders }) =>
    orders.includes(order),
  );
  if (rules.length === 0) {
    throw new TypeError(`\`order\` must be "own", "shared" or "none", got ${String(order)}`);
  }
  const missing = ({ needs }: Rule): readonly LogNeed[] =>
    needs.filter((name) => (name === 'recall' ? !recall : faults[name] === undefined));
  const uncovered = rules.filter((rule) => missing(rule).length > 0);
  onUncovered(
    uncovered.map((rule) => ({ property: rule.property, title: rule.title, needs: missing(rule) })),
  );
  return rules
    .filter((rule) => !uncovered.includes(rule))
    .map((rule) => ({
      property: rule.property,
      title: rule.title,
      run: () => Trial.of(rule, harness, patience),
    }));
}

function warn(clauses: readonly UncoveredClause[]): void {
  for (const { title, needs } of clauses) {
    console.warn(`not covered, because the harness has no ${needs.join(', ')}: ${title}`);
  }
}
