// Shows JSON as a tree that opens and closes, part by part.
import { make } from './elements.js';
import { count, isObject } from './figures.js';

/** How many parts are shown at once. */
const MAX_PARTS = 100;
const MAX_TEXT = 20_000;

/**
 * @param {unknown} value
 * @param {string} [name]
 * @returns {HTMLElement}
 */
export function treeOf(value, name) {
  const box = isObject(value) ? branchOf(value, name) : make('div', 'leaf');
  if (!isObject(value)) box.append(...labelOf(name), leafOf(value));
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
 */
function addParts(box, parts) {
  box.append(...parts.slice(0, MAX_PARTS).map(([name, value]) => treeOf(value, name)));
  const rest = parts.slice(MAX_PARTS);
  if (rest.length === 0) return;
  const more = make('button', '', `${rest.length.toLocaleString('en')} more`);
  more.type = 'button';
  more.addEventListener('click', () => {
    more.remove();
    addParts(box, rest);
  });
  box.append(more);
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
