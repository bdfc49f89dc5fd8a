// Finds the known word that somebody probably meant: the nearest one by letters added, dropped, changed or swapped.
// Stands alone: copy this file by itself.

/** The known word that is nearest to `word`; `undefined` where none is near enough to be meant. */
export function didYouMean(word: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let least = Math.floor(Math.min(word.length, MAX_LENGTH) / 3) + 1;
  for (const candidate of known) {
    const distance = distanceBetween(word.slice(0, MAX_LENGTH).toLowerCase(), candidate);
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

const MAX_LENGTH = 64;

/** The fewest edits of one letter, or of two neighbours that change places, from one word to the other. */
function distanceBetween(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, n) => n);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const changed = last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      row.push(Math.min(changed, last[j]! + 1, row[j - 1]! + 1, isSwap ? before[j - 2]! + 1 : Infinity));
    }
    [before, last] = [last, row];
  }
  return last[b.length]!;
}
