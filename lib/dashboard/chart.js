// Charts what one process of the server did in the last ten minutes, from its own figures.
import { element, input, makeSvg, selection } from './elements.js';
import { bytes, clock } from './figures.js';
import { authorization, limited, oneAtATime } from './requests.js';

/**
 * @typedef {object} Report
 * @property {number} interval Milliseconds from one figure to the next.
 * @property {string} until
 * @property {Record<string, number[]>} figures
 */

/** How many figures the chart has room for: ten minutes. */
const LENGTH = 120;
const HEIGHT = 96;
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 8, 8, 18];
const X_LABELS = ['10 min ago', '5 min ago', 'now'];

/** @type {Report | undefined} */
let report;
/** The place that the user points at; `undefined`: the last one. @type {number | undefined} */
let chosen;
/** The statuses of a refusal that only another token can change. */
const FINAL = [401, 403, 404];
/** The token with which the server refused its figures. @type {string | undefined} */
let refusedWith;

export function startChart() {
  selection('recent-of').addEventListener('change', draw);
  const place = input('recent-at');
  place.max = String(LENGTH - 1);
  place.value = place.max;
  place.addEventListener('input', () => choose(Number(place.value)));
  place.addEventListener('pointermove', (event) => {
    const { left, width } = place.getBoundingClientRect();
    const inside = (event.clientX - left - LEFT) / (width - LEFT - RIGHT);
    choose(Math.round(inside * (LENGTH - 1)));
  });
  place.addEventListener('pointerleave', () => choose(undefined));
  place.addEventListener('blur', () => choose(undefined));
  new ResizeObserver(draw).observe(element('recent-box'));
}

/** Requests the figures of the server. Call it every few seconds. */
export const refreshChart = oneAtATime(async () => {
  const token = input('token').value;
  // The server may show its figures to others only: that is asked once for each token.
  if (refusedWith === token) return;
  try {
    const request = { cache: /** @type {const} */ ('no-store'), headers: authorization(), signal: limited() };
    const response = await fetch('metrics/recent', request);
    refusedWith = FINAL.includes(response.status) ? token : undefined;
    if (response.ok) report = await response.json();
    else if (refusedWith !== undefined) report = undefined;
  } catch {
    // The server cannot be reached: the state of the connection says so.
  }
  element('recent-panel').hidden = report === undefined;
  draw();
});

/** @param {number | undefined} place */
function choose(place) {
  chosen = place === undefined ? undefined : Math.min(LENGTH - 1, Math.max(0, place));
  input('recent-at').value = String(chosen ?? LENGTH - 1);
  draw();
}

function draw() {
  const values = report?.figures[selection('recent-of').value] ?? [];
  const width = element('recent-box').clientWidth;
  if (width === 0) return;
  const top = roundUp(Math.max(1, ...values));
  /** @param {number} place */
  const x = (place) => LEFT + (place / (LENGTH - 1)) * (width - LEFT - RIGHT);
  /** @param {number} value */
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP);
  const first = LENGTH - values.length;
  const points = values.map((value, i) => `${x(first + i).toFixed(1)} ${y(value).toFixed(1)}`).join('L');
  const line = points === '' ? '' : `M${points}`;
  const area = points === '' ? '' : `M${x(first).toFixed(1)} ${y(0)}L${points}L${x(LENGTH - 1)} ${y(0)}Z`;
  const cursor = chosen === undefined ? '' : `M${x(chosen).toFixed(1)} ${TOP}V${y(0)}`;
  element('recent').setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
  element('recent').replaceChildren(
    ...[0, top / 2, top].flatMap((value) => gridLine(textOf(value), y(value), width)),
    ...X_LABELS.map((text, i) => {
      const anchor = ['start', 'middle', 'end'][i] ?? 'end';
      return label(text, x((i * (LENGTH - 1)) / 2), HEIGHT - 4, anchor);
    }),
    makeSvg('path', { class: 'spark-area', d: area }),
    makeSvg('path', { class: 'spark-line', d: line }),
    makeSvg('path', { class: 'cursor', d: cursor }),
  );
  say(values, first);
}

/**
 * @param {readonly number[]} values
 * @param {number} first The place of the first one.
 */
function say(values, first) {
  const place = chosen ?? LENGTH - 1;
  const value = values[place - first];
  const name = selection('recent-of').selectedOptions[0]?.text ?? '';
  const at = Date.parse(report?.until ?? '') - (LENGTH - 1 - place) * (report?.interval ?? 0);
  const time = Number.isNaN(at) ? '' : clock(new Date(at)).slice(0, -4);
  const text = value === undefined ? `${time} no figure` : `${time} ${textOf(value)}`;
  element('recent-said').textContent = text;
  input('recent-at').setAttribute('aria-valuetext', `${text} ${name}`);
  const most = values.length > 0 ? `, at most ${textOf(Math.max(...values))}` : '';
  element('recent').setAttribute('aria-label', `The last ten minutes of the server: ${name}${most}`);
}

/** @param {number} value */
function textOf(value) {
  const of = selection('recent-of').value;
  if (of === 'memoryBytes') return bytes(value).join(' ');
  return `${value.toLocaleString('en')}${of === 'streams' ? '' : '/s'}`;
}

/**
 * @param {string} text
 * @param {number} y
 * @param {number} width
 */
function gridLine(text, y, width) {
  const line = makeSvg('path', { class: 'grid', d: `M${LEFT} ${y.toFixed(1)}H${width - RIGHT}` });
  return [line, label(text, LEFT - 6, y + 4, 'end')];
}

/**
 * @param {string} text
 * @param {number} x
 * @param {number} y
 * @param {string} anchor
 */
function label(text, x, y, anchor) {
  const made = makeSvg('text', { x: x.toFixed(1), y: y.toFixed(1), 'text-anchor': anchor });
  made.textContent = text;
  return made;
}

/**
 * The next of 1, 2, 5, 10, 20, 50 and so on.
 *
 * @param {number} value
 */
function roundUp(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return unit * ([1, 2, 5].find((times) => times * unit >= value) ?? 10);
}
