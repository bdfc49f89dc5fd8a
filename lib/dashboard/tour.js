// The guided first minute: publish, cut the connection, publish more, and see that nothing was lost.
import { connect, drop, watch } from './connection.js';
import { button, element } from './elements.js';
import { count } from './figures.js';
import { ask } from './requests.js';
import { followOne, refreshTopics } from './topics.js';

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
      return 'The server has 5 more events. Now reconnect.';
    },
  },
  {
    label: 'Reconnect',
    run: async () => {
      connect();
      return `${sayOutcome(missed, await arrivalOf(missed))} The server replayed what came after the last id of this page.`;
    },
  },
];

let step = 0;
/** @type {readonly string[]} */
let missed = [];
let isBusy = false;
/**
 * The ids of what the tour published last; `undefined` until the server has answered.
 *
 * @type {ReadonlySet<string> | undefined}
 */
let wanted;
/** Which of that have come. Until it is known, all of the topic. @type {Set<string>} */
const come = new Set();
/** @type {() => void} */
let ignore = () => {};
let onCome = () => {};

export function startTour() {
  if (stored() === 'done') return;
  element('tour').hidden = false;
  button('tour-next').addEventListener('click', next);
  button('tour-close').addEventListener('click', () => {
    element('tour').hidden = true;
    ignore();
    store('done');
    element('log').focus();
  });
}

async function next() {
  if (isBusy) return;
  setBusy(true);
  try {
    element('tour-said').textContent = (await STEPS[step]?.run()) ?? '';
    element(`step-${step + 1}`).classList.add('done');
    step += 1;
  } catch (error) {
    element('tour-said').textContent = /** @type {Error} */ (error).message;
  }
  setBusy(false);
  button('tour-next').textContent = STEPS[step]?.label ?? '';
  if (step < STEPS.length) return;
  ignore();
  if (document.activeElement === button('tour-next')) button('tour-close').focus();
  button('tour-next').hidden = true;
}

/**
 * The button keeps the focus meanwhile, which a disabled one would lose.
 *
 * @param {boolean} is
 */
function setBusy(is) {
  isBusy = is;
  button('tour-next').setAttribute('aria-disabled', String(is));
}

/** @param {number} number */
async function publishAndWait(number) {
  const ids = await publish(number);
  return sayOutcome(ids, await arrivalOf(ids));
}

/**
 * @param {number} number
 * @returns {Promise<readonly string[]>} The ids.
 */
async function publish(number) {
  followOne(TOPIC);
  hear();
  const lines = Array.from({ length: number }, (_, i) => `event ${i + 1} of ${number}`);
  const headers = { 'content-type': 'application/x-ndjson' };
  const { status, answer } = await ask(`topics/${TOPIC}`, {
    method: 'POST',
    headers,
    body: lines.join('\n'),
  });
  if (status !== 200) throw new Error(`The server refused: ${answer.message}`);
  wanted = new Set(answer.ids);
  for (const id of come) if (!wanted.has(id)) come.delete(id);
  await refreshTopics();
  return answer.ids;
}

/** Keeps the ids that come from now on, also between two steps: the user may connect in other ways. */
function hear() {
  ignore();
  come.clear();
  wanted = undefined;
  ignore = watch(({ topic, id }) => {
    if (topic !== TOPIC || !(wanted?.has(id) ?? true)) return;
    come.add(id);
    onCome();
  });
}

/**
 * Resolves with those of the ids that have come, in their order, once all have come or it takes too long.
 *
 * @param {readonly string[]} ids
 * @returns {Promise<readonly string[]>}
 */
function arrivalOf(ids) {
  return new Promise((resolve) => {
    const end = () => {
      onCome = () => {};
      clearTimeout(timer);
      resolve([...come]);
    };
    const timer = setTimeout(end, MAX_WAIT);
    onCome = () => {
      if (ids.every((id) => come.has(id))) end();
    };
    onCome();
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
