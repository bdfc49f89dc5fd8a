// Keeps the newest events and notes, bounded, and those of them that the filter lets through.
import { isControlEvent } from './protocol.js';

/** @import { StreamEvent } from './stream.js' */

/**
 * @typedef {object} Entry
 * @property {number} number Counts from 1, in the order of arrival.
 * @property {string} type
 * @property {string} id
 * @property {string} topic
 * @property {string} data
 * @property {string} raw `''` for notes of the dashboard.
 * @property {number} at When it arrived, in milliseconds since 1970.
 * @property {boolean} isReplay It was published before its connection was opened.
 *
 * @typedef {object} Filter
 * @property {string} text
 * @property {string} topic
 * @property {string} type
 */

/** The type of notes that the dashboard itself adds. */
export const NOTE = 'here';
export const MAX_ENTRIES = 20_000;
const MAX_CHARACTERS = 32 * 1024 * 1024;
/** How many more may wait to be dropped together. */
const SLACK = 500;

/** @type {Entry[]} */
let entries = [];
/** @type {Entry[]} */
let shown = [];
/** @type {Filter} */
let filter = { text: '', topic: '', type: '' };
let characters = 0;
let added = 0;
let isPaused = false;
/** How many had been added when the list was paused. */
let pausedAt = 0;
let waiting = 0;
let changed = () => {};

/** What has come since the page was opened. */
export const counts = { received: 0, connections: 0, lastId: '' };

/**
 * Calls a function after each change, as often as there is one.
 *
 * @param {() => void} listener
 */
export function onChange(listener) {
  changed = listener;
}

/**
 * @param {StreamEvent} event
 * @param {boolean} isReplay
 */
export function addEvent(event, isReplay) {
  if (!isControlEvent(event.type)) counts.received += 1;
  const { type, id, topic, data, raw } = event;
  add({ number: 0, type, id, topic, data, raw, at: Date.now(), isReplay });
}

/** @param {string} text */
export function addNote(text) {
  add({ number: 0, type: NOTE, id: '', topic: '', data: text, raw: '', at: Date.now(), isReplay: false });
}

/** Those that the filter lets through, oldest first. While paused, those of the moment when it was paused. */
export function shownEntries() {
  return shown;
}

/** How many the filter lets through that have come since the list was paused. */
export function waitingCount() {
  return waiting;
}

export function clearEntries() {
  entries = [];
  characters = 0;
  waiting = 0;
  shown = [];
  changed();
}

/** @param {boolean} isWanted */
export function pause(isWanted) {
  isPaused = isWanted;
  pausedAt = added;
  waiting = 0;
  if (!isPaused) choose();
  changed();
}

/** @param {Partial<Filter>} change */
export function setFilter(change) {
  filter = { ...filter, ...change };
  choose();
  changed();
}

/** @param {Entry} entry */
function add(entry) {
  added += 1;
  entry.number = added;
  entries.push(entry);
  characters += sizeOf(entry);
  const isShown = passes(entry);
  if (isShown && isPaused) waiting += 1;
  else if (isShown) shown.push(entry);
  if (entries.length > MAX_ENTRIES + SLACK || characters > MAX_CHARACTERS) trim();
  changed();
}

function trim() {
  let end = Math.max(0, entries.length - MAX_ENTRIES);
  let freed = 0;
  for (let i = 0; i < end; i += 1) freed += sizeOf(/** @type {Entry} */ (entries[i]));
  for (; end < entries.length - 1 && characters - freed > MAX_CHARACTERS * 0.9; end += 1)
    freed += sizeOf(/** @type {Entry} */ (entries[end]));
  characters -= freed;
  entries.splice(0, end);
  if (isPaused) return;
  const oldest = entries[0]?.number ?? added;
  const first = shown.findIndex(({ number }) => number >= oldest);
  shown.splice(0, first === -1 ? shown.length : first);
}

/** @param {Entry} entry */
function sizeOf({ data, raw }) {
  return data.length + raw.length + 200;
}

function choose() {
  const passing = entries.filter(passes);
  shown = isPaused ? passing.filter(({ number }) => number <= pausedAt) : passing;
  waiting = passing.length - shown.length;
}

/**
 * A gap or a note always passes: a reader must not miss those.
 *
 * @param {Entry} entry
 */
function passes({ type, topic, id, data }) {
  if (type === NOTE || isControlEvent(type)) return true;
  if (filter.topic !== '' && filter.topic !== topic) return false;
  if (filter.type !== '' && filter.type !== type) return false;
  const text = filter.text.toLowerCase();
  return text === '' || [data, type, topic, id].some((field) => field.toLowerCase().includes(text));
}
