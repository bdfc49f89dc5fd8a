// The list of events, newest first and bounded: queues the events that arrive, and draws them as rows.
import { element, make } from './elements.js';
import { clock, count, isObject, parseJson } from './figures.js';
import { compareIds, controlEvents, isControlEvent, readGap, readReady, readRefused } from './protocol.js';
import { readSample, showSample, summaryOf } from './tiles.js';

/** @import { GapReason } from './protocol.js' */
/** @import { Sample } from './tiles.js' */

/**
 * One connection: an EventSource, or one of its own reconnects.
 *
 * @typedef {object} Session
 * @property {readonly string[]} topics
 * @property {string} replayedTo Events up to this id are replayed on this connection; later ones are live.
 *
 * @typedef {object} Entry
 * @property {string} type
 * @property {string} id
 * @property {string} data
 * @property {Date} at
 * @property {Session} [session] Absent from notes of the dashboard.
 * @property {Sample | undefined} [sample]
 */

const MAX_ROWS = 500;
const MAX_SHOWN_CHARACTERS = 20_000;
/** How many seconds the bars of the event rate show. */
const MAX_RATES = 60;
const DRAW_DELAY = 40;

/** The class of a row for control events and notes. */
const KINDS = new Map([
  [controlEvents.ready, 'ready'],
  [controlEvents.gap, 'gap'],
  [controlEvents.end, 'end'],
  [controlEvents.error, 'end'],
  [controlEvents.refused, 'note'],
  ['here', 'note'],
]);

/** @type {Readonly<Record<GapReason, string>>} */
const GAP_REASONS = {
  evicted: 'the server no longer has them',
  'unknown-epoch': 'the last id is from another run of the server',
  ahead: 'the last id is newer than anything that the server has published',
  truncated: 'the log of the server was shortened',
  'store-changed': 'the log of the server was replaced',
  malformed: 'the last id cannot be read',
};

/** @type {Entry[]} */
let queue = [];
let skipped = 0;
let isPaused = false;
let isDrawing = false;
let received = 0;
let receivedThisSecond = 0;
/** @type {number[]} */
const rates = [];
/** @type {WeakMap<Element, Entry>} */
const entries = new WeakMap();

/**
 * Adds an event of a stream.
 *
 * @param {MessageEvent<string>} event
 * @param {Session} session
 */
export function addEvent({ type, lastEventId: id, data }, session) {
  if (!isControlEvent(type)) {
    received += 1;
    receivedThisSecond += 1;
  }
  const isFromSystem = (type === 'system' || type === 'message') && session.topics.includes('system');
  const sample = isFromSystem ? readSample(data) : undefined;
  if (sample !== undefined) showSample(sample);
  enqueue({ type, id, data, at: new Date(), session, sample });
}

/**
 * Adds a note of the dashboard itself.
 *
 * @param {string} text
 */
export function addNote(text) {
  enqueue(noteOf(text));
}

/**
 * Marks the rows of a connection that are replays, once `replayedTo` is known.
 *
 * @param {Session} session
 */
export function markReplays(session) {
  for (const row of element('log').children) {
    const entry = entries.get(row);
    if (entry?.session === session && isReplay(entry)) row.classList.add('again');
  }
}

export function clearEvents() {
  queue = [];
  skipped = 0;
  element('log').replaceChildren();
  element('empty').hidden = false;
  showPause();
}

export function togglePause() {
  isPaused = !isPaused;
  if (!isPaused && queue.length > 0) draw();
  showPause();
}

/** Draws the event count of the last second as one more bar. Call it once a second. */
export function drawRate() {
  const rate = receivedThisSecond;
  receivedThisSecond = 0;
  rates.push(rate);
  if (rates.length > MAX_RATES) rates.shift();
  const top = Math.max(4, ...rates);
  const bars = rates.map((value, i) => {
    const height = value === 0 ? 0.6 : Math.max(1.5, (22 * value) / top);
    return `M${121.25 - (rates.length - i) * 2} 24v-${height.toFixed(2)}`;
  });
  element('bars').setAttribute('d', bars.join(''));
  element('rate').textContent = rate.toLocaleString('en');
}

// ── the queue ─────────────────────────────────────────────────────────────────────────────────────────────

/**
 * @param {string} text
 * @returns {Entry}
 */
function noteOf(text, at = new Date()) {
  return { type: 'here', id: '', data: text, at };
}

/** @param {Entry} entry */
function enqueue(entry) {
  queue.push(entry);
  if (queue.length >= MAX_ROWS) {
    // Never skips a gap or an end: a reader must not miss those.
    const oldest = queue.findIndex(({ type }) => !KINDS.has(type));
    queue.splice(Math.max(0, oldest), 1);
    skipped += 1;
  }
  if (isPaused) showPause();
  else if (!isDrawing) {
    isDrawing = true;
    setTimeout(draw, DRAW_DELAY);
  }
}

function showPause() {
  const waiting = (queue.length + skipped).toLocaleString('en');
  element('pause').textContent = isPaused ? `Resume (${waiting} new)` : 'Pause';
  element('pause').setAttribute('aria-pressed', String(isPaused));
}

function draw() {
  isDrawing = false;
  const drawn = queue;
  queue = [];
  if (skipped > 0) {
    const text = `${count(skipped, 'event')} not shown: the list holds ${MAX_ROWS}`;
    drawn.unshift(noteOf(text, drawn[0]?.at));
    skipped = 0;
  }
  const log = element('log');
  log.prepend(...drawn.reverse().map(rowOf));
  while (log.children.length > MAX_ROWS) log.lastElementChild?.remove();
  element('empty').hidden = log.children.length > 0;
  element('received').textContent = received.toLocaleString('en');
}

// ── a row ─────────────────────────────────────────────────────────────────────────────────────────────────

/** @param {Entry} entry */
function rowOf(entry) {
  const kind = KINDS.get(entry.type);
  const row = make('li', `row fresh ${kind ?? ''}`.trim());
  const time = make('time', '', clock(entry.at));
  time.dateTime = entry.at.toISOString();
  const type = make('span', 'kind', entry.type);
  type.title = entry.type;
  const id = make('span', 'id', entry.id);
  id.title = entry.id;
  const data = make('div', 'data');
  data.append(...contentOf(entry));
  row.append(time, type, id, data);
  if (kind === undefined) entries.set(row, entry);
  if (kind === undefined && isReplay(entry)) row.classList.add('again');
  return row;
}

/** @param {Entry} entry */
function isReplay({ id, session }) {
  const order = compareIds(id, session?.replayedTo);
  return order !== undefined && order <= 0;
}

/**
 * @param {Entry} entry
 * @returns {(Node | string)[]}
 */
function contentOf({ type, id, data, sample }) {
  if (type === controlEvents.ready) return [`following ${listOf(readReady(data).topics)}, from ${id}`];
  if (type === controlEvents.gap) return gapOf(data, id);
  // The data of the last event names its topics as the data of the first does.
  if (type === controlEvents.end) return [`no more events will come in ${listOf(readReady(data).topics)}`];
  if (type === controlEvents.refused) return [readRefused(data).message];
  if (sample !== undefined) return [folded(data, summaryOf(sample), 'sample')];
  if (data.length > 160 || data.includes('\n')) return [folded(data, firstLineOf(data))];
  return [data];
}

/**
 * @param {string} data
 * @param {string} id
 */
function gapOf(data, id) {
  const { reason, from, to, topics } = readGap(data, id);
  const why = Object.entries(GAP_REASONS).find(([known]) => known === reason)?.[1];
  return [
    make('b', '', `Events are missing: ${reason}`),
    ` – ${why ?? 'the server gave a reason that the dashboard does not know'}. From `,
    make('code', '', from ?? 'an unknown id'),
    ' to ',
    make('code', '', to),
    ` in ${listOf(topics)}.`,
  ];
}

/** @param {readonly string[]} topics */
function listOf(topics) {
  return topics.length > 0 ? topics.join(', ') : 'these topics';
}

/** @param {string} text */
function firstLineOf(text) {
  return text.slice(0, 400).split('\n', 1)[0] || '(begins with an empty line)';
}

/**
 * Shows a summary, and the whole text once it is opened.
 *
 * @param {string} text
 * @param {string} summary
 * @param {string} [className]
 */
function folded(text, summary, className) {
  const details = make('details', className);
  details.append(make('summary', '', summary));
  details.addEventListener('toggle', () => details.append(make('pre', '', spelledOut(text))), { once: true });
  return details;
}

/**
 * JSON with line breaks, other text as it is; cut where it is long.
 *
 * @param {string} text
 */
function spelledOut(text) {
  const value = text.length <= MAX_SHOWN_CHARACTERS ? parseJson(text) : undefined;
  const shown = isObject(value) ? JSON.stringify(value, null, 2) : text;
  const rest = shown.length - MAX_SHOWN_CHARACTERS;
  return rest > 0 ? `${shown.slice(0, MAX_SHOWN_CHARACTERS)}\n… and ${count(rest, 'character')} more` : shown;
}
