// The guided first minute: publish, cut the connection, publish more, and see that nothing was lost.
import { connect, drop, watch } from './connection.js';
import { button, element } from './elements.js';
import { count } from './figures.js';
import { ask } from './requests.js';
import { followNew, refreshTopics } from './topics.js';

const TOPIC = 'demo';
const KEY = 'sluice-tour';
/** Milliseconds after which what has not come counts as lost. */
const MAX_WAIT = 15_000;

/** @type {readonly { label: string, run: () => Promise<string> }[]} */
const STEPS = [
  { label: 'Publish 3 events', run: async () => `${await publishAndWait(3)} Now cut the connection.` },
  {
    label: 'Cut the connection',
    run: async () => {
      drop();
      return 'This page hears nothing now. Publish while it is away.';
    },
  },
  {
    label: 'Publish 5 more',
    run: async () => {
      missed = await publish(5);
      return 'The server has 5 events that this page has not seen.';
    },
  },
  {
    label: 'Reconnect',
    run: async () => {
      const arrived = arrivalOf(missed);
      connect();
      return `${sayOutcome(missed, await arrived)} The server replayed what came after the last id of this page.`;
    },
  },
];

let step = 0;
/** @type {readonly string[]} */
let missed = [];

export function startTour() {
  if (stored() === 'done') return;
  element('tour').hidden = false;
  button('tour-next').addEventListener('click', next);
  button('tour-close').addEventListener('click', () => {
    element('tour').hidden = true;
    store('done');
  });
}

async function next() {
  button('tour-next').disabled = true;
  try {
    element('tour-said').textContent = (await STEPS[step]?.run()) ?? '';
    element(`step-${step + 1}`).classList.add('done');
    step += 1;
  } catch (error) {
    element('tour-said').textContent = /** @type {Error} */ (error).message;
  }
  button('tour-next').disabled = false;
  button('tour-next').textContent = STEPS[step]?.label ?? '';
  button('tour-next').hidden = step === STEPS.length;
  button(step === STEPS.length ? 'tour-close' : 'tour-next').focus();
}

/** @param {number} number */
async function publishAndWait(number) {
  const ids = await publish(number);
  return sayOutcome(ids, await arrivalOf(ids, true));
}

/**
 * @param {number} number
 * @returns {Promise<readonly string[]>} The ids.
 */
async function publish(number) {
  followNew(TOPIC);
  const lines = Array.from({ length: number }, (_, i) => `event ${i + 1} of ${number}`);
  const headers = { 'content-type': 'application/x-ndjson' };
  early.clear();
  const ignore = watch(({ topic, id }) => topic === TOPIC && early.add(id));
  try {
    const { status, answer } = await ask(`topics/${TOPIC}`, {
      method: 'POST',
      headers,
      body: lines.join('\n'),
    });
    if (status !== 200) throw new Error(`The server refused: ${answer.message}`);
    await refreshTopics();
    return answer.ids;
  } finally {
    ignore();
  }
}

/** What has come before the server answered. @type {Set<string>} */
const early = new Set();

/**
 * Resolves with the ids that come, in their order, once all have come or it takes too long.
 *
 * @param {readonly string[]} ids
 * @param {boolean} [hasBegun] Some may have come by now.
 * @returns {Promise<readonly string[]>}
 */
function arrivalOf(ids, hasBegun = false) {
  const come = hasBegun ? ids.filter((id) => early.has(id)) : [];
  if (come.length === ids.length) return Promise.resolve(come);
  return new Promise((resolve) => {
    const end = () => {
      ignore();
      clearTimeout(timer);
      resolve(come);
    };
    const timer = setTimeout(end, MAX_WAIT);
    const ignore = watch(({ id }) => {
      if (ids.includes(id)) come.push(id);
      if (come.length >= ids.length) end();
    });
  });
}

/**
 * @param {readonly string[]} ids
 * @param {readonly string[]} come
 */
function sayOutcome(ids, come) {
  if (ids.join() === come.join()) return `All ${ids.length} came, in order, each once: nothing was lost.`;
  return `${count(come.length, 'event')} of ${ids.length} came: ${come.join(', ') || 'none'}.`;
}

/** Where the browser keeps nothing, the tour begins again with each visit. */
function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/** @param {string} value */
function store(value) {
  try {
    localStorage.setItem(KEY, value);
  } catch {
    // As above.
  }
}
