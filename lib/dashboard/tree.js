// Shows JSON as a tree that opens and closes, part by part.
import { make } from './elements.js';
import { count, isObject } from './figures.js';

/** How many parts are shown at once. */
const MAX_PARTS = 100;
const MAX_TEXT = 20_000;

/** A number that reads otherwise in the text than as a value: `1.10`, or one with more digits than fit. */
class Written {
  /** @param {string} text */
  constructor(text) {
    this.text = text;
  }
}

/**
 * The tree of a JSON object or array. `undefined` for other text, and where a tree would not show it as it is.
 *
 * @param {string} text
 */
export function readTree(text) {
  let members = 0;
  let isExact = true;
  /** @type {(this: any, key: string, value: unknown, context?: { source?: string }) => unknown} */
  const revive = (_key, value, context) => {
    if (isObject(value) && !Array.isArray(value)) members += Object.keys(value).length;
    if (typeof value !== 'number') return value;
    const written = String(value);
    // Without the source of numbers, those that are that long may have been others.
    if (context?.source === undefined) isExact &&= written.length <= MAX_EXACT;
    else if (context.source !== written) return new Written(context.source);
    return value;
  };
  try {
    const value = JSON.parse(text, revive);
    // Of two members with the same name, the first is lost.
    const colons = text.replaceAll(STRING, '').split(':').length - 1;
    const isWhole = isExact && members === colons;
    return isWhole && isObject(value) && !(value instanceof Written) ? treeOf(value) : undefined;
  } catch {
    return undefined;
  }
}

const STRING = /"(?:[^"\\]|\\.)*"/g;
/** Characters of a number that a JavaScript number holds for certain. */
const MAX_EXACT = 15;

/**
 * @param {unknown} value
 * @param {string} [name]
 * @returns {HTMLElement}
 */
function treeOf(value, name) {
  if (value instanceof Written) return leafBox(name, make('span', 'number', value.text));
  return isObject(value) ? branchOf(value, name) : leafBox(name, leafOf(value));
}

/**
 * @param {string | undefined} name
 * @param {HTMLElement} leaf
 */
function leafBox(name, leaf) {
  const box = make('div', 'leaf');
  box.append(...labelOf(name), leaf);
  return box;
}

/**
 * @param {Record<string, unknown>} value
 * @param {string | undefined} name
 */
function branchOf(value, name) {
  const parts = Object.entries(value);
  const details = make('details', 'branch');
  const summary = make('summary');
  const size = Array.isArray(value)
    ? `[ ${count(parts.length, 'item')} ]`
    : `{ ${count(parts.length, 'member')} }`;
  summary.append(...labelOf(name), make('span', 'size', size));
  details.append(summary);
  // The root is open. A part is made when it is opened: a large value would take long at once.
  const open = () => addParts(details, parts);
  if (name === undefined) {
    details.open = true;
    open();
  } else details.addEventListener('toggle', open, { once: true });
  return details;
}

/**
 * @param {HTMLElement} box
 * @param {readonly [string, unknown][]} parts
 * @returns {readonly HTMLElement[]} Those that were added.
 */
function addParts(box, parts) {
  const added = parts.slice(0, MAX_PARTS).map(([name, value]) => treeOf(value, name));
  box.append(...added);
  const rest = parts.slice(MAX_PARTS);
  if (rest.length === 0) return added;
  const more = make('button', '', `${rest.length.toLocaleString('en')} more`);
  more.type = 'button';
  more.addEventListener('click', () => {
    const [first] = addParts(box, rest);
    // The button had the focus: reading goes on at the first new part.
    const next = first?.querySelector('summary') ?? first;
    if (next === first) first?.setAttribute('tabindex', '-1');
    next?.focus();
    more.remove();
  });
  box.append(more);
  return added;
}

/** @param {string | undefined} name */
function labelOf(name) {
  return name === undefined ? [] : [make('span', 'name', name), ': '];
}

/** @param {unknown} value */
function leafOf(value) {
  const text = JSON.stringify(value) ?? '';
  const rest = text.length - MAX_TEXT;
  const shown = rest > 0 ? `${text.slice(0, MAX_TEXT)} … and ${count(rest, 'character')} more` : text;
  return make('span', value === null ? 'null' : typeof value, shown);
}
