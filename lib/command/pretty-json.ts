// Indents and colours JSON for a terminal, token by token: numbers, escapes and repeated names stay as they are.
// Needs `colors.ts` beside it.

import type { Paint } from './colors.ts';

const MAX_LENGTH = 100_000;
// Indentation grows with depth: text of this length may be 30 times as long, but not a million times.
const MAX_DEPTH = 32;

/**
 * Returns an object or array over several lines, without a line feed at the end. Returns `undefined` for any other
 * text, for one that is longer than 100,000 characters, and for one with more than 32 levels.
 */
export function prettyJson(text: string, paint: Paint): string | undefined {
  if (!/^\s*[{[]/.test(text) || text.length > MAX_LENGTH || !isJson(text)) return undefined;
  let out = '';
  let depth = 0;
  let before = '';
  for (const [token] of text.matchAll(TOKEN)) {
    const opens = token === '{' || token === '[';
    const closes = token === '}' || token === ']';
    if (closes) depth--;
    if (closes ? !isOpening(before) : isOpening(before) || before === ',') out += `\n${'  '.repeat(depth)}`;
    if (opens && ++depth > MAX_DEPTH) return undefined;
    out += token === ':' ? ': ' : token;
    before = token;
  }
  return colored(out, paint);
}

// The characters of a string that are no escapes come in runs, so that long strings take few steps.
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

function isOpening(token: string): boolean {
  return token === '{' || token === '[';
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Names are blue, strings green, and numbers, booleans and null yellow. */
function colored(text: string, paint: Paint): string {
  return text.replace(PART, (part, string: string | undefined, colon: string | undefined) => {
    if (string === undefined) return paint('yellow', part);
    return colon === undefined ? paint('green', string) : `${paint('blue', string)}${colon}`;
  });
}

const PART = /("[^"\\]*(?:\\.[^"\\]*)*")(: )?|[^\s{}[\],:"]+/g;
