// Draws the last two minutes of the connection: live and replayed events, when it was cut, and gaps.
import { element } from './elements.js';
import { count } from './figures.js';

/**
 * One second.
 *
 * @typedef {object} Second
 * @property {number} at Seconds since 1970.
 * @property {number} live
 * @property {number} replayed
 * @property {number} gaps
 * @property {'live' | 'cut' | 'off'} link
 */

const LENGTH = 120;
/** The width and height of the drawing, in its own units: two for each second. */
const [WIDTH, BARS, STRIP] = [LENGTH * 2, 48, 56];

/** @type {Second[]} */
const seconds = [];
/** @type {Second['link']} */
let link = 'off';
/** By topic, the events since the rates were read last. @type {Map<string, number>} */
let byTopic = new Map();
let readAt = performance.now();

/**
 * @param {string} topic
 * @param {boolean} isReplay
 */
export function countEvent(topic, isReplay) {
  const second = present();
  if (isReplay) second.replayed += 1;
  else second.live += 1;
  byTopic.set(topic, (byTopic.get(topic) ?? 0) + 1);
}

export function countGap() {
  present().gaps += 1;
}

/** @param {Second['link']} next */
export function showLink(next) {
  link = next;
  const second = present();
  // A cut that is shorter than a second shows as well.
  if (second.link !== 'cut') second.link = link;
}

/** The events per second of each topic since this was asked last. @returns {Map<string, number>} */
export function takeRates() {
  const now = performance.now();
  const passed = Math.max(1, now - readAt) / 1000;
  const rates = new Map([...byTopic].map(([topic, events]) => [topic, events / passed]));
  byTopic = new Map();
  readAt = now;
  return rates;
}

/** The second that has begun last, with those before it that had no event. */
function present() {
  const now = Math.floor(Date.now() / 1000);
  let last = seconds.at(-1);
  if (last !== undefined && last.at >= now) return last;
  const from = Math.max((last?.at ?? now - 1) + 1, now - LENGTH + 1);
  for (let at = from; at <= now; at += 1) {
    last = { at, live: 0, replayed: 0, gaps: 0, link };
    seconds.push(last);
  }
  while (seconds.length > LENGTH) seconds.shift();
  return /** @type {Second} */ (last);
}

/** Call it once a second. */
export function drawTimeline() {
  present();
  const top = Math.max(4, ...seconds.map(({ live, replayed }) => live + replayed));
  const left = WIDTH - seconds.length * 2 + 1;
  /** @param {(second: Second) => [from: number, to: number] | undefined} part */
  const path = (part) =>
    seconds
      .map((second, i) => {
        const line = part(second);
        return line === undefined ? '' : `M${left + i * 2} ${line[0].toFixed(1)}V${line[1].toFixed(1)}`;
      })
      .join('');
  /** @param {number} events */
  const heightOf = (events) => (events === 0 ? 0 : Math.max(2, (events / top) * (BARS - 4)));
  /** @type {Record<string, (second: Second) => [number, number] | undefined>} */
  const parts = {
    'past-live': ({ live }) => (live > 0 ? [BARS, BARS - heightOf(live)] : undefined),
    'past-again': ({ live, replayed }) =>
      replayed > 0 ? [BARS - heightOf(live), BARS - heightOf(live) - heightOf(replayed)] : undefined,
    'past-on': (second) => (second.link === 'live' ? [BARS + 1, STRIP] : undefined),
    'past-cut': (second) => (second.link === 'cut' ? [BARS + 3, STRIP - 2] : undefined),
    'past-gap': ({ gaps }) => (gaps > 0 ? [0, STRIP] : undefined),
  };
  for (const [id, part] of Object.entries(parts)) element(id).setAttribute('d', path(part));
  say(top);
}

/** @param {number} top */
function say(top) {
  /** @param {(second: Second) => number} of */
  const sum = (of) => seconds.reduce((total, second) => total + of(second), 0);
  const live = sum((second) => second.live);
  const replayed = sum((second) => second.replayed);
  const gaps = sum((second) => second.gaps);
  const cut = sum((second) => Number(second.link === 'cut'));
  element('past-top').textContent = `${top.toLocaleString('en')}/s`;
  element('past-live-count').textContent = live.toLocaleString('en');
  element('past-again-count').textContent = replayed.toLocaleString('en');
  element('past-cut-count').textContent = `${cut} s`;
  element('past-gap-count').textContent = String(gaps);
  element('rate').textContent = (seconds.at(-2)?.live ?? 0).toLocaleString('en');
  const words = [count(live, 'live event'), `${replayed.toLocaleString('en')} replayed`, `cut for ${cut} s`];
  element('past').setAttribute(
    'aria-label',
    `The last two minutes: ${words.join(', ')}, ${count(gaps, 'gap')}`,
  );
}
