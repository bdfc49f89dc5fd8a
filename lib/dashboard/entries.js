// Says in words what an event or a note is: its kind, a line for the list, and what came of a gap.
import { controlEvents, isControlEvent, readGap, readReady, readRefused } from './protocol.js';
import { NOTE } from './store.js';
import { readSample, summaryOf } from './tiles.js';

/** @import { GapReason } from './protocol.js' */
/** @import { Entry } from './store.js' */

const MAX_LINE = 400;

/** The class of a row for control events and notes. */
const KINDS = new Map([
  [controlEvents.ready, 'ready'],
  [controlEvents.gap, 'gap'],
  [controlEvents.end, 'end'],
  [controlEvents.error, 'end'],
  [controlEvents.refused, 'note'],
  [NOTE, 'note'],
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

/** @param {Entry} entry */
export function classOf({ type, isReplay }) {
  return KINDS.get(type) ?? (isReplay ? 'again' : '');
}

/**
 * Whether it is an event that somebody published.
 *
 * @param {Entry} entry
 */
export function isPublished({ type }) {
  return type !== NOTE && !isControlEvent(type);
}

/**
 * One line.
 *
 * @param {Entry} entry
 */
export function lineOf({ type, topic, id, data }) {
  if (type === controlEvents.ready) return `following ${listOf(readReady(data).topics)}, from ${id}`;
  if (type === controlEvents.gap) return gapOf(data, id);
  // The data of the last event names its topics as the data of the first does.
  if (type === controlEvents.end) return `no more events will come in ${listOf(readReady(data).topics)}`;
  if (type === controlEvents.refused) return readRefused(data).message;
  const sample = topic === 'system' ? readSample(data) : undefined;
  if (sample !== undefined) return summaryOf(sample);
  return data.slice(0, MAX_LINE).replace(/\s+/g, ' ');
}

/**
 * @param {string} data
 * @param {string} id
 */
function gapOf(data, id) {
  const { reason, from, to, topics } = readGap(data, id);
  const why = Object.entries(GAP_REASONS).find(([known]) => known === reason)?.[1];
  const because = why ?? 'the server gave a reason that the dashboard does not know';
  const first = from ?? 'an unknown id';
  return `Events are missing: ${reason} – ${because}. From ${first} to ${to} in ${listOf(topics)}.`;
}

/** @param {readonly string[]} topics */
function listOf(topics) {
  return topics.length > 0 ? topics.join(', ') : 'these topics';
}
