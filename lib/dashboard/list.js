// Draws the list of events, newest first: only the rows that are in view, once a frame, however many there are.

import { button, element, make } from './elements.js';
import { classOf, lineOf } from './entries.js';
import { clock } from './figures.js';
import { counts, NOTE, onChange, shownEntries, waitingCount } from './store.js';

/** @import { Entry } from './store.js' */

/** Rows that are drawn above and below those in view. */
const MARGIN = 4;

/** @typedef {{ element: HTMLElement, entry: Entry | undefined, parts: HTMLElement[] }} Row */

/** @type {Row[]} */
const rows = [];
/** @type {Entry | undefined} */
let selected;
let isPlanned = false;
/** Of a row. */
let height = 30;
/** The number of the newest entry that was drawn. */
let newest = 0;
let isPaused = false;
/** @type {(entry: Entry) => void} */
let onSelect = () => {};

/** @param {(entry: Entry) => void} listener Called with the entry that the user has selected. */
export function startList(listener) {
  onSelect = listener;
  const log = element('log');
  onChange(plan);
  log.addEventListener('scroll', plan, { passive: true });
  log.addEventListener('keydown', move);
  log.addEventListener('click', ({ target }) => {
    const row = rows.find(({ element: one }) => target instanceof Node && one.contains(target));
    if (row?.entry) select(row.entry);
  });
  new ResizeObserver(() => {
    height = rowHeight(log);
    plan();
  }).observe(log);
  plan();
}

/** @param {boolean} is */
export function showPaused(is) {
  isPaused = is;
  plan();
}

/** @param {Entry | undefined} entry */
export function select(entry) {
  selected = entry;
  plan();
  if (entry === undefined) return;
  onSelect(entry);
  // What shows all of it may have taken the place of the row.
  requestAnimationFrame(() => {
    const index = shownEntries().length - 1 - shownEntries().indexOf(entry);
    if (index < shownEntries().length) reveal(element('log'), index);
  });
}

/** Calls for a drawing in the next frame. */
function plan() {
  if (isPlanned) return;
  isPlanned = true;
  requestAnimationFrame(draw);
}

function draw() {
  isPlanned = false;
  const log = element('log');
  const entries = shownEntries();
  stay(log, entries);
  element('sizer').style.height = `${entries.length * height}px`;
  const first = Math.max(0, Math.floor(log.scrollTop / height) - MARGIN);
  const end = Math.min(entries.length, Math.ceil((log.scrollTop + log.clientHeight) / height) + MARGIN);
  element('window').style.transform = `translateY(${first * height}px)`;
  for (let i = first; i < end; i += 1) fill(i - first, entries, i);
  for (const { element: row } of rows.splice(Math.max(0, end - first))) row.remove();
  showState(entries);
}

/**
 * Keeps what the user has scrolled to in its place while new events come above it.
 *
 * @param {HTMLElement} log
 * @param {readonly Entry[]} entries
 */
function stay(log, entries) {
  const last = entries.at(-1)?.number ?? 0;
  if (log.scrollTop > 0 && last > newest) {
    let count = 0;
    while ((entries.at(-1 - count)?.number ?? 0) > newest) count += 1;
    element('sizer').style.height = `${entries.length * height}px`;
    log.scrollTop += count * height;
  }
  newest = last;
}

/**
 * @param {number} place Of the row.
 * @param {readonly Entry[]} entries
 * @param {number} index From the newest one.
 */
function fill(place, entries, index) {
  const row = rows[place] ?? addRow();
  const entry = /** @type {Entry} */ (entries.at(-1 - index));
  row.element.setAttribute('aria-posinset', String(index + 1));
  row.element.setAttribute('aria-setsize', String(entries.length));
  row.element.setAttribute('aria-selected', String(entry === selected));
  if (row.entry === entry) return;
  row.entry = entry;
  row.element.id = `entry-${entry.number}`;
  row.element.className = `row ${classOf(entry)}`.trim();
  const { type, topic, id, at } = entry;
  const texts = [clock(new Date(at)), topic, type, id, lineOf(entry)];
  for (const [i, part] of row.parts.entries()) part.textContent = texts[i] ?? '';
  if (type === NOTE) row.parts[2]?.replaceChildren('note');
}

function addRow() {
  const row = make('div');
  row.setAttribute('role', 'option');
  const parts = [
    make('span', 'time'),
    make('span', 'topic-name'),
    make('span', 'kind'),
    make('span', 'id'),
    make('span', 'data'),
  ];
  row.append(...parts);
  element('window').append(row);
  /** @type {Row} */
  const made = { element: row, entry: undefined, parts };
  rows.push(made);
  return made;
}

/** @param {readonly Entry[]} entries */
function showState(entries) {
  const log = element('log');
  const isDrawn = selected !== undefined && rows.some(({ entry }) => entry === selected);
  if (isDrawn) log.setAttribute('aria-activedescendant', `entry-${selected?.number}`);
  else log.removeAttribute('aria-activedescendant');
  element('empty').hidden = entries.length > 0;
  element('received').textContent = counts.received.toLocaleString('en');
  element('last').textContent = counts.lastId || '–';
  button('pause').textContent = isPaused ? `Resume (${waitingCount().toLocaleString('en')} new)` : 'Pause';
  button('pause').setAttribute('aria-pressed', String(isPaused));
}

/** @param {HTMLElement} log */
function rowHeight(log) {
  return Number.parseFloat(getComputedStyle(log).getPropertyValue('--row-height')) || 30;
}

/** @param {KeyboardEvent} event */
function move(event) {
  const entries = shownEntries();
  const log = element('log');
  const page = Math.max(1, Math.floor(log.clientHeight / height) - 1);
  const last = entries.length - 1;
  const at = selected === undefined ? -1 : last - entries.indexOf(selected);
  const isKnown = at >= 0 && at <= last;
  /** @type {Readonly<Record<string, number>>} */
  const places = {
    ArrowDown: at + 1,
    ArrowUp: at - 1,
    PageDown: at + page,
    PageUp: at - page,
    Home: 0,
    End: last,
  };
  const place = places[event.key];
  if (place === undefined || last < 0) return;
  event.preventDefault();
  const chosen =
    isKnown || event.key === 'Home' || event.key === 'End' ? Math.min(last, Math.max(0, place)) : 0;
  select(entries[last - chosen]);
}

/**
 * @param {HTMLElement} log
 * @param {number} index
 */
function reveal(log, index) {
  const top = index * height;
  if (top < log.scrollTop) log.scrollTop = top;
  else if (top + height > log.scrollTop + log.clientHeight) log.scrollTop = top + height - log.clientHeight;
}
