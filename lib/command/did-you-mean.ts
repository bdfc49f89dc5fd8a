// Finds the known word that was most likely meant by an unknown one.
// Stands alone: copy this file by itself.

/**
 * Returns the known word with the fewest typing errors between it and `word`, the first of several; `undefined`
 * where each has too many: more than one for each three characters of the longer word, or three in all. A typing
 * error is a character that is missing, added or wrong, or two neighbours in the wrong order.
 */
export function didYouMean(word: string, known: Iterable<string>): string | undefined {
  let closest: string | undefined;
  let least = MAX_ERRORS + 1;
  for (const candidate of known) {
    const longer = Math.max(word.length, candidate.length);
    if (Math.abs(word.length - candidate.length) > MAX_ERRORS) continue;
    const errors = errorsBetween(word, candidate);
    if (errors >= least || errors > Math.ceil(longer / 3)) continue;
    closest = candidate;
    least = errors;
  }
  return closest;
}

const MAX_ERRORS = 3;

/** The optimal string alignment distance. Keeps the last three rows of its table. */
function errorsBetween(a: string, b: string): number {
  let before: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      row[j] = Math.min(replaced, above[j]! + 1, row[j - 1]! + 1);
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (isSwapped) row[j] = Math.min(row[j]!, before[j - 2]! + 1);
    }
    [before, above] = [above, row];
  }
  return above[b.length]!;
}
