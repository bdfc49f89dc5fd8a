// Keeps one EventSource connected to the topics that are followed, and shows its state.
import { button, element, input } from './elements.js';
import { addEvent, addNote, markReplays } from './events.js';
import { controlEvents } from './protocol.js';
import { askPosition, askTicket, requireToken } from './requests.js';

/** @import { Session } from './events.js' */

/** @typedef {'idle' | 'connecting' | 'live' | 'lost' | 'dropped' | 'closed' | 'ended'} State */

const DROP_SECONDS = 5;
const MAX_TYPES = 100;

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

/** The event types that the EventSource listens to. */
const types = new Set(['message', 'system', ...Object.values(controlEvents)]);

/** @type {EventSource | undefined} */
let source;
/** @type {Session} */
let session = { topics: [], replayedTo: '' };
/** @type {readonly string[]} */
let topics = [];
/** @type {State} */
let state = 'idle';
let lastId = '';
let dropTimer = 0;

/**
 * Connects to other topics. Continues after the last id, so that topics that are kept lose no event.
 *
 * @param {readonly string[]} wanted
 */
export function followTopics(wanted) {
  topics = wanted;
  connect(lastId);
}

/**
 * Opens a new connection in place of the present one.
 *
 * @param {string} from Continues after this id; `''` begins with the next event.
 */
export async function connect(from) {
  disconnect();
  if (topics.length === 0) return setState('idle');
  setState('connecting');
  const mine = session;
  // Requested before the connection opens: events up to this position were missed, and are replayed.
  if (from !== '') mine.replayedTo = await askPosition();
  const ticket = await askTicket();
  if (mine === session) open(from, ticket);
}

/** Drops the connection for some seconds; reconnects at once where there is no connection. */
export function toggleDrop() {
  if (state === 'dropped' || state === 'closed' || state === 'ended') connect(lastId);
  else drop();
}

/**
 * Listens to one more event type. EventSource delivers an event only to listeners for its type.
 *
 * @param {string} type
 */
export function listenTo(type) {
  if (types.has(type) || types.size >= MAX_TYPES) return;
  types.add(type);
  source?.addEventListener(type, receive);
  const field = input('listen');
  if (!field.value.split(/[\s,]+/).includes(type)) field.value = `${field.value} ${type}`.trim();
}

/** @param {State} next */
function setState(next) {
  state = next;
  element('state').dataset.state = next;
  element('state').textContent = STATE_TEXTS[next];
  const isOff = next === 'dropped' || next === 'closed' || next === 'ended';
  button('drop').textContent = isOff ? 'Reconnect now' : `Drop for ${DROP_SECONDS} s`;
  button('drop').disabled = next === 'idle';
}

function disconnect() {
  clearInterval(dropTimer);
  source?.close();
  source = undefined;
  beginSession();
}

function beginSession() {
  session = { topics, replayedTo: '' };
}

/**
 * @param {string} from
 * @param {string} ticket
 */
function open(from, ticket) {
  const query = new URLSearchParams(topics.map((topic) => ['topic', topic]));
  if (from !== '') query.set('lastEventId', from);
  if (ticket !== '') query.set('ticket', ticket);
  const mine = new EventSource(`events?${query}`);
  source = mine;
  let hasBeenOpen = false;
  // The server may publish events of the types `open` and `error`: those are MessageEvents.
  mine.onopen = (event) => {
    if (event instanceof MessageEvent) return;
    if (hasBeenOpen) markMissed();
    hasBeenOpen = true;
    setState('live');
  };
  mine.onerror = (event) => {
    if (event instanceof MessageEvent || mine !== source) return;
    if (mine.readyState === EventSource.CLOSED) closed(mine.url, hasBeenOpen);
    else lost();
  };
  for (const type of types) mine.addEventListener(type, receive);
}

/** @param {Event} event */
function receive(event) {
  if (!(event instanceof MessageEvent)) return;
  lastId = event.lastEventId || lastId;
  element('last').textContent = lastId || '–';
  if (event.type === controlEvents.position) return;
  if (event.type === controlEvents.end) setState('ended');
  addEvent(event, session);
}

/**
 * Marks replays after the browser has reconnected by itself: before that, the position cannot be requested.
 */
async function markMissed() {
  const mine = session;
  mine.replayedTo = await askPosition();
  markReplays(mine);
}

function lost() {
  beginSession();
  if (state !== 'live') return;
  addNote('connection lost; the browser reconnects with the last id');
  setState('lost');
}

function drop() {
  disconnect();
  addNote(`connection closed by the button${lastId && `, after ${lastId}`}`);
  setState('dropped');
  let left = DROP_SECONDS;
  const show = () => {
    button('drop').textContent = `Reconnect now (${left})`;
  };
  show();
  dropTimer = setInterval(() => {
    left -= 1;
    show();
    if (left === 0) connect(lastId);
  }, 1000);
}

/**
 * Called when the EventSource has given up. It gives no reason, so the same request by fetch finds it.
 *
 * @param {string} url
 * @param {boolean} hasBeenOpen
 */
async function closed(url, hasBeenOpen) {
  const hasEnded = state === 'ended';
  disconnect();
  if (hasEnded) return;
  setState('closed');
  const mine = session;
  const control = new AbortController();
  try {
    const headers = { accept: 'text/event-stream' };
    const response = await fetch(url, { headers, cache: 'no-store', signal: control.signal });
    if (mine !== session || (response.ok && response.status !== 204)) control.abort();
    else if (response.status === 204) addNote('these topics have ended: no more events will come');
    else refused(response.status, Object(await response.json()), hasBeenOpen);
  } catch {
    // Without an answer there is no reason to show: the state shows that the connection is closed.
  }
}

/**
 * @param {number} status
 * @param {Record<string, unknown>} answer
 * @param {boolean} hasBeenOpen
 */
function refused(status, { message, error }, hasBeenOpen) {
  if (status === 401) {
    requireToken();
    // A ticket is valid for one connection: the browser's own reconnect sends it again and is refused.
    if (hasBeenOpen && input('token').value !== '') return connect(lastId);
  }
  addNote(`refused with status ${status}: ${message ?? error}`);
}
