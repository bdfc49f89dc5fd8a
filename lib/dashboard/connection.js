// Keeps one stream connected to the topics that are followed, and shows its state.
import { button, element } from './elements.js';
import {
  compareIds,
  controlEvents,
  formatId,
  isControlEvent,
  parseId,
  readGap,
  readReady,
} from './protocol.js';
import { askPosition, readAnswer, requireToken } from './requests.js';
import { addEvent, addNote, clearEntries, counts } from './store.js';
import { readStream } from './stream.js';
import { countEvent, countGap, showLink } from './timeline.js';

/** @import { StreamEvent } from './stream.js' */

/** @typedef {'idle' | 'connecting' | 'live' | 'lost' | 'dropped' | 'closed' | 'ended'} State */

const DROP_SECONDS = 5;
/** How many of the newest events the first connection begins with. */
const FIRST_EVENTS = 1000;
const MAX_DELAY = 30_000;
/** Milliseconds in which the answer to a request for a stream begins. */
const MAX_HEAD_WAIT = 30_000;
const SILENCE_CHECK = 1000;

/** @type {Readonly<Record<State, string>>} */
const STATE_TEXTS = {
  idle: 'no topic',
  connecting: 'connecting',
  live: 'live',
  lost: 'retrying',
  dropped: 'dropped',
  closed: 'closed',
  ended: 'ended',
};

/** How the timeline shows a state. While it connects, the one before holds. */
const LINKS = /** @type {const} */ ({
  idle: 'off',
  connecting: undefined,
  live: 'live',
  lost: 'cut',
  dropped: 'cut',
  closed: 'cut',
  ended: 'off',
});

let control = new AbortController();
/** @type {readonly string[]} */
let topics = [];
/** @type {State} */
let state = 'idle';
let lastId = '';
/** The next connection begins with the oldest event, not with the newest ones. */
let replaysAll = false;
/** Events up to this id were published before the connection was opened. */
let replayedTo = '';
let retry = 2000;
/** Milliseconds of silence after which the connection is dead: what the server has promised. */
let maxSilence = Infinity;
let dropTimer = 0;
/** Why there is no stream, as it was shown last since there was one. */
let refusal = '';
/** By topic, the id of the newest event that has come: a connection may begin with some of them again. */
const seen = new Map();
/** @type {(maxTopics: number) => void} */
let onTopicLimit = () => {};
/** @type {Set<(event: StreamEvent, isReplay: boolean) => void>} */
const watchers = new Set();

/**
 * Calls a function with each published event that comes.
 *
 * @param {(event: StreamEvent, isReplay: boolean) => void} watcher
 * @returns {() => void} Ends that.
 */
export function watch(watcher) {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

/**
 * Calls a function with how many topics one stream may follow, where the server has refused more.
 *
 * @param {(maxTopics: number) => void} listener
 */
export function whenLimited(listener) {
  onTopicLimit = listener;
}

/**
 * Connects to other topics. Continues after the last id, so that topics that are kept lose no event.
 *
 * @param {readonly string[]} wanted
 * @param {readonly string[]} [positions] Those at which the new ones had no event: they lose none either.
 */
export function followTopics(wanted, positions = []) {
  topics = wanted;
  if (!replaysAll) for (const since of positions) lastId = earlierOf(since, lastId);
  if (state !== 'dropped') connect();
}

/**
 * Where a connection begins that misses nothing after either of two positions.
 *
 * @param {string} since
 * @param {string} last
 */
function earlierOf(since, last) {
  const [one, other] = [parseId(since), parseId(last)];
  if (one === undefined) return last;
  if (other === undefined) return since;
  if (one.epoch === other.epoch) return one.seq < other.seq ? since : last;
  // After a restart of the server: all of its present run is newer than an id of the one before.
  return one.epoch < other.epoch ? formatId(other.epoch, 0) : last;
}

/**
 * Whether all has come that the topics had up to an id.
 *
 * @param {string} id
 */
export function hasReached(id) {
  const [one, other] = [parseId(lastId), parseId(id)];
  if (one === undefined || other === undefined) return false;
  return one.epoch === other.epoch ? one.seq >= other.seq : one.epoch > other.epoch;
}

/** Opens a new connection in place of the present one. */
export function connect() {
  disconnect();
  if (topics.length === 0) return setState('idle');
  setState('connecting');
  run(control.signal);
}

/** Begins again with the oldest event that the server has of these topics. */
export function replayAll() {
  clearEntries();
  seen.clear();
  lastId = '';
  replaysAll = true;
  connect();
}

/** Drops the connection for some seconds; reconnects at once where there is no connection. */
export function toggleDrop() {
  if (isOff()) connect();
  else drop(DROP_SECONDS);
}

/**
 * Closes the connection.
 *
 * @param {number} [seconds] After these it reconnects; default not by itself.
 */
export function drop(seconds) {
  disconnect();
  addNote(`connection closed by the button${lastId && `, after ${lastId}`}`);
  setState('dropped');
  if (seconds === undefined) return;
  let left = seconds;
  const show = () => {
    button('drop').textContent = `Reconnect now (${left})`;
  };
  show();
  dropTimer = setInterval(() => {
    left -= 1;
    show();
    if (left === 0) connect();
  }, 1000);
}

function isOff() {
  return state === 'dropped' || state === 'closed' || state === 'ended';
}

/** @param {State} next */
function setState(next) {
  state = next;
  const link = LINKS[next];
  if (link !== undefined) showLink(link);
  element('state').dataset.state = next;
  element('state').textContent = STATE_TEXTS[next];
  button('drop').textContent = isOff() ? 'Reconnect now' : `Drop for ${DROP_SECONDS} s`;
  button('drop').disabled = next === 'idle';
}

function disconnect() {
  clearInterval(dropTimer);
  control.abort();
  control = new AbortController();
}

/**
 * Connects, and again after each failure that may pass.
 *
 * @param {AbortSignal} signal
 */
async function run(signal) {
  for (let failures = 0; !signal.aborted; failures += 1) {
    replayedTo = await askPosition(signal);
    if (signal.aborted) return;
    const before = counts.connections;
    const mayPass = await attempt(signal);
    if (signal.aborted || !mayPass) return;
    if (counts.connections > before) failures = 0;
    if (state === 'live') addNote('connection lost; the dashboard reconnects with the last id');
    setState('lost');
    await sleep(Math.min(MAX_DELAY, retry * 2 ** failures * (1 - Math.random() / 4)), signal);
  }
}

/**
 * One connection, until it ends.
 *
 * @param {AbortSignal} signal
 * @returns {Promise<boolean>} Whether to try again.
 */
async function attempt(signal) {
  const query = new URLSearchParams(topics.map((topic) => ['topic', topic]));
  query.set('nameTopics', '1');
  if (lastId !== '') query.set('lastEventId', lastId);
  else if (replaysAll) query.set('from', 'earliest');
  else query.set('last', String(FIRST_EVENTS));
  let isStream = false;
  let heardAt = performance.now();
  const silent = new AbortController();
  const timer = setInterval(() => {
    if (performance.now() - heardAt > (isStream ? maxSilence : MAX_HEAD_WAIT)) silent.abort();
  }, SILENCE_CHECK);
  try {
    const response = await readStream(`events?${query}`, AbortSignal.any([signal, silent.signal]), {
      onOpen: () => {
        isStream = true;
        heardAt = performance.now();
      },
      onBytes: () => {
        heardAt = performance.now();
      },
      onEvent: (event) => signal.aborted || receive(event),
      onRetry: (ms) => {
        retry = ms;
      },
    });
    if (signal.aborted || state === 'ended') return false;
    return isStream || (await mayPass(response));
  } catch {
    // Without an answer there is no reason to show: the state shows that there is no connection.
    if (isStream && silent.signal.aborted) addNote('the server was silent for longer than it had promised');
    return true;
  } finally {
    clearInterval(timer);
  }
}

/**
 * Shows why there is no stream.
 *
 * @param {Response} response
 * @returns {Promise<boolean>} Whether to try again.
 */
async function mayPass(response) {
  const { status } = response;
  if (status === 204) {
    addNote('these topics have ended: no more events will come');
    setState('ended');
    return false;
  }
  const { message, error, maxTopics } = await readAnswer(response);
  const isPassing = status === 429 || status >= 500;
  if (status === 401) requireToken();
  const text = `refused with status ${status}: ${response.ok ? 'this is no event stream' : message}`;
  // Once for each reason, however often it tries.
  if (!isPassing || text !== refusal) addNote(text);
  refusal = text;
  if (!isPassing) setState('closed');
  if (error === 'too-many-topics' && maxTopics >= 1 && maxTopics < topics.length) onTopicLimit(maxTopics);
  return isPassing;
}

/** @param {StreamEvent} event */
function receive(event) {
  lastId = event.id || lastId;
  replaysAll = false;
  counts.lastId = lastId;
  if (isControlEvent(event.type)) receiveControl(event);
  else receivePublished(event);
}

/** @param {StreamEvent} event */
function receivePublished(event) {
  const { id, topic } = event;
  if ((compareIds(id, seen.get(topic)) ?? 1) <= 0) return;
  seen.set(topic, id);
  const isReplay = (compareIds(id, replayedTo) ?? 1) <= 0;
  addEvent(event, isReplay);
  countEvent(topic, isReplay);
  for (const watcher of watchers) watcher(event, isReplay);
}

/** @param {StreamEvent} event */
function receiveControl(event) {
  const { type, id, data } = event;
  if (type === controlEvents.position) return;
  if (type === controlEvents.ready) {
    counts.connections += 1;
    refusal = '';
    const { heartbeat } = readReady(data);
    maxSilence = heartbeat === undefined ? Infinity : silenceOf(heartbeat);
    setState('live');
  }
  if (type === controlEvents.end) setState('ended');
  if (type !== controlEvents.gap) return addEvent(event, false);
  const { reason, to, topics: lacking } = readGap(data, id);
  // What is lost has come before, where the connection began with some events again.
  if (lacking.length > 0 && lacking.every((topic) => (compareIds(to, seen.get(topic)) ?? 1) <= 0)) return;
  addEvent(event, false);
  countGap();
  element('gap-said').textContent = `Events are missing: ${reason}`;
  if (reason === 'unknown-epoch') beginRun(to);
}

/**
 * One heartbeat more than may be missed, and some time to arrive.
 *
 * @param {{ interval: number, missed: number }} heartbeat
 */
function silenceOf({ interval, missed }) {
  return interval > 0 ? interval * (missed + 1) + SILENCE_CHECK : Infinity;
}

/**
 * After a restart the server continues with what comes next. What it has published since it started is still there.
 *
 * @param {string} id An id of the new run.
 */
function beginRun(id) {
  const { epoch, seq } = parseId(id) ?? { epoch: 0, seq: 0 };
  if (seq === 0) return;
  lastId = formatId(epoch, 0);
  connect();
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function sleep(ms, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
  });
}
