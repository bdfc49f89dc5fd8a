// The list of topics: which there are, and which are followed.
import { followTopics, hasReached, whenLimited } from './connection.js';
import { element, input, make } from './elements.js';
import { bytes, count } from './figures.js';
import { isTopic, topicRule } from './protocol.js';
import { ask, oneAtATime } from './requests.js';
import { hideTiles } from './tiles.js';
import { takeRates } from './timeline.js';

/**
 * @typedef {object} Topic
 * @property {string} topic
 * @property {number} [events] Absent from a topic that the server does not know.
 * @property {number} [bytes]
 * @property {number} [subscribers]
 * @property {string} [last] The id of the newest event.
 * @property {boolean} [ended]
 */

/** Fewer than one stream may follow by default. */
let maxFollowed = 50;
const MAX_LISTED = 200;

/** @type {readonly Topic[]} */
let known = [];
/** @type {Set<string>} */
let followed = new Set();
let followsAll = true;
/** The position of the server when it last listed its topics: those that it did not list had no event by then. */
let listedAt = '';
/** The last name of the listing, where it is not the last topic. @type {string | undefined} */
let listedTo;
/** Why there is no listing. */
let refusal = '';
/** Topics that have begun since and found no place yet: by name, a position at which each had no event. */
const waiting = new Map();
let rates = new Map();

/**
 * Follows only the topics with these names, where any of them is valid; all topics otherwise.
 *
 * @param {readonly string[]} names
 */
export function beginWith(names) {
  const wanted = names.filter(isTopic).slice(0, maxFollowed);
  if (wanted.length === 0) return;
  followsAll = false;
  followed = new Set(wanted);
  followTopics(wanted);
}

/** Requests the topics of the server, and follows new ones where all are followed. */
export const refreshTopics = oneAtATime(async () => {
  try {
    const { status, answer } = await ask('topics');
    const isListing = Array.isArray(answer.topics);
    refusal = isListing ? '' : `No list of topics: ${status}: ${answer.message}`;
    if (isListing) takeTopics(answer);
    else drawTopics();
  } catch {
    // The server cannot be reached: the state of the connection says so.
  }
});

/** @param {Record<string, any>} answer */
function takeTopics(answer) {
  const since = listedAt;
  const before = new Set(known.map(({ topic }) => topic));
  known = answer.topics;
  listedTo = answer.next;
  if (followsAll && since !== '') wait(before, since);
  // Beyond a page of topics, it is not known which are new.
  if (listedTo === undefined) listedAt = String(answer.position ?? '');
  element('position').textContent = answer.position ?? '–';
  if (followsAll) followKnown(since);
  drawTopics();
}

/** Measures how many events of each topic come in a second. Call it every few seconds. */
export function measureRates() {
  rates = takeRates();
  drawTopics();
}

/** Follows as many as the server allows. */
whenLimited((maxTopics) => {
  maxFollowed = maxTopics;
  followed = new Set([...followed].slice(0, maxFollowed));
  followChanged();
  drawTopics();
});

/** @param {boolean} isWanted */
export function followAll(isWanted) {
  followsAll = isWanted;
  waiting.clear();
  if (isWanted) followKnown('');
  else followChanged();
  drawTopics();
}

/**
 * Follows a topic, or stops following it. After this, new topics are not followed automatically.
 *
 * @param {string} topic
 */
export function follow(topic, isWanted = true) {
  if (!isWanted) followed.delete(topic);
  else if (followed.size < maxFollowed) followed.add(topic);
  followsAll = false;
  drawTopics();
  followChanged();
}

/**
 * Follows a topic to which the user publishes the first event.
 *
 * @param {string} name
 */
export function followNew(name) {
  const isKnown = followed.has(name) || known.some(({ topic }) => topic === name);
  if (!followsAll && !isKnown) follow(name);
}

/**
 * Follows a topic as well, in place of another one where there is no room. New topics are followed as before.
 *
 * @param {string} name
 */
export function followOne(name) {
  if (followed.has(name)) return;
  if (followed.size >= maxFollowed && !release(new Map())) followed = new Set([...followed].slice(1));
  followed.add(name);
  drawTopics();
  followChanged();
}

/**
 * Reads the name of a topic from a field. Reports to the user and returns `undefined` where it cannot be one.
 *
 * @param {HTMLInputElement} field
 */
export function readTopic(field) {
  const name = field.value.trim();
  if (isTopic(name)) return name;
  field.setCustomValidity(`A topic is ${topicRule}`);
  field.reportValidity();
  field.addEventListener('input', () => field.setCustomValidity(''), { once: true });
  return undefined;
}

/**
 * Remembers what has begun since the listing before: also what has ended again by now.
 *
 * @param {ReadonlySet<string>} before
 * @param {string} since
 */
function wait(before, since) {
  const names = new Set(known.map(({ topic }) => topic));
  for (const name of waiting.keys()) if (!names.has(name) || followed.has(name)) waiting.delete(name);
  for (const name of names) if (!before.has(name) && !followed.has(name)) waiting.set(name, since);
}

/** @param {string} since Where those begin whose first event is not known to come after a position. */
function followKnown(since) {
  /** @type {Map<string, string>} */
  const added = new Map();
  for (const { topic, events = 0, ended } of known) {
    if (followed.has(topic) || (ended && !waiting.has(topic))) continue;
    if (followed.size >= maxFollowed && !(events > 0 && release(added))) continue;
    followed.add(topic);
    added.set(topic, waiting.get(topic) ?? since);
    waiting.delete(topic);
  }
  if (added.size > 0) followChanged([...added.values()]);
}

/**
 * Makes room for another topic: stops following one that has nothing more to deliver. Either it has ended and all
 * of it has come, or the server has no events of it.
 *
 * @param {ReadonlyMap<string, string>} added Those of which nothing has come yet.
 * @returns {boolean} Whether there was one.
 */
function release(added) {
  const infos = new Map(known.map((info) => [info.topic, info]));
  for (const topic of followed) {
    if (added.has(topic) || isBeyond(topic)) continue;
    const { events = 0, ended, last } = infos.get(topic) ?? {};
    if ((events > 0 && !ended) || !(last === undefined || hasReached(last))) continue;
    return followed.delete(topic);
  }
  return false;
}

/**
 * Whether the listing does not say if there is such a topic.
 *
 * @param {string} topic
 */
function isBeyond(topic) {
  return listedTo !== undefined && topic > listedTo;
}

/** @param {readonly string[]} [positions] Where those that are new begin. */
function followChanged(positions) {
  if (!followsAll) history.replaceState(null, '', `#${[...followed].join(',')}`);
  else if (location.hash) history.replaceState(null, '', location.pathname + location.search);
  if (!followed.has('system')) hideTiles();
  followTopics([...followed], positions);
}

// ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────

function drawTopics() {
  const names = new Set(known.map(({ topic }) => topic));
  const unknown = [...followed].filter((name) => !names.has(name)).map((topic) => ({ topic }));
  /** @type {Topic[]} */
  const listed = [...known, ...unknown];
  const isLong = listed.length > MAX_LISTED;
  const rank = (/** @type {Topic} */ { topic }) => (isLong && followed.has(topic) ? 0 : 1);
  listed.sort((a, b) => rank(a) - rank(b) || (a.topic < b.topic ? -1 : 1));
  input('all').checked = followsAll;
  element('more').textContent = hintFor(listed.length);
  drawRows(listed.slice(0, MAX_LISTED));
}

/** @param {number} total */
function hintFor(total) {
  if (refusal !== '') return refusal;
  if (total === 0) return 'There is no topic yet: publish the first event below.';
  if (listedTo !== undefined) return 'and more: follow them by name';
  if (total > MAX_LISTED) return `and ${(total - MAX_LISTED).toLocaleString('en')} more: follow them by name`;
  return followed.size >= maxFollowed ? `The dashboard follows ${maxFollowed} topics at most.` : '';
}

/**
 * Updates the rows. A row that stays is changed in place, so that it keeps the focus.
 *
 * @param {readonly Topic[]} topics
 */
function drawRows(topics) {
  const box = element('topics');
  const rows = /** @type {HTMLElement[]} */ ([...box.children]);
  const old = new Map(rows.map((row) => [row.dataset.topic, row]));
  for (const [i, topic] of topics.entries()) {
    const row = old.get(topic.topic) ?? rowOf(topic.topic);
    old.delete(topic.topic);
    if (box.children[i] !== row) box.insertBefore(row, box.children[i] ?? null);
    updateRow(row, topic);
  }
  for (const row of old.values()) row.remove();
  suggest(topics.map(({ topic }) => topic));
}

/** @param {string} topic */
function rowOf(topic) {
  const box = make('input');
  box.type = 'checkbox';
  box.addEventListener('change', () => follow(topic, box.checked));
  const text = make('span');
  text.append(make('b', '', topic), make('small'));
  const label = make('label', 'topic');
  label.append(box, text);
  const row = make('li');
  row.dataset.topic = topic;
  row.append(label);
  return row;
}

/**
 * @param {HTMLElement} row
 * @param {Topic} topic
 */
function updateRow(row, { topic, events, bytes: size = 0, subscribers = 0, ended }) {
  const [box, about] = [row.querySelector('input'), row.querySelector('small')];
  if (box !== null) box.checked = followed.has(topic);
  const facts =
    events === undefined
      ? [isBeyond(topic) ? 'not listed' : 'the server has no event of it']
      : [count(events, 'event'), bytes(size).join(' '), count(subscribers, 'reader')];
  const rate = rates.get(topic);
  if (rate) facts.push(`${rate.toLocaleString('en', { maximumFractionDigits: rate < 10 ? 1 : 0 })}/s`);
  about?.replaceChildren(facts.join(' · '), ...(ended ? [' · ', make('span', 'over', 'ended')] : []));
}

/**
 * Offers the topics in the form. Changes the list only where the topics have changed: otherwise an open list
 * would close.
 *
 * @param {readonly string[]} topics
 */
function suggest(topics) {
  const box = element('names');
  if (box.dataset.topics === topics.join()) return;
  box.dataset.topics = topics.join();
  const options = topics.map((topic) => {
    const option = make('option');
    option.value = topic;
    return option;
  });
  box.replaceChildren(...options);
}
