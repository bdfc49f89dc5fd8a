// Draws the tiles: the newest sample of the topic `system`, each figure with its values of the last minute.
import { element, make, makeSvg } from './elements.js';
import { figure, isObject, parseJson } from './figures.js';

/**
 * @typedef {object} Sample
 * @property {number} at Milliseconds since 1970.
 * @property {Record<string, unknown>} groups
 *
 * @typedef {[label: string, group: string, name: string]} Figure
 *
 * @typedef {object} Tile
 * @property {Text} number
 * @property {HTMLElement} unit
 * @property {Element} line
 * @property {Element} area
 * @property {number[]} past
 */

/** How many samples a tile shows. */
const MAX_PAST = 60;
const MAX_TILES = 12;

/** @type {readonly Figure[]} */
const FIGURES = [
  ['Host CPU', 'host', 'cpuPercent'],
  ['Load, 1 min', 'host', 'load1'],
  ['Host memory', 'host', 'memoryUsedBytes'],
  ['Server CPU', 'process', 'cpuPercent'],
  ['Server memory', 'process', 'rssBytes'],
  ['Loop delay p99', 'eventLoop', 'p99Ms'],
];

/** @type {Map<string, Tile>} */
const tiles = new Map();
let shownAt = 0;

/**
 * Reads the data of an event. `undefined` where it is not a sample: anyone may publish to `system`.
 *
 * @param {string} data
 * @returns {Sample | undefined}
 */
export function readSample(data) {
  const groups = data.startsWith('{') ? parseJson(data) : undefined;
  if (!isObject(groups)) return undefined;
  const { time, host, process, eventLoop } = groups;
  if (typeof time !== 'string' || Number.isNaN(Date.parse(time))) return undefined;
  if (!isObject(host) || !isObject(process) || !isObject(eventLoop)) return undefined;
  const memoryUsedBytes = Number(host.memoryTotalBytes) - Number(host.memoryAvailableBytes);
  return { at: Date.parse(time), groups: { ...groups, host: { ...host, memoryUsedBytes } } };
}

/**
 * The figures of the tiles in one line.
 *
 * @param {Sample} sample
 */
export function summaryOf(sample) {
  const words = FIGURES.map(([label, group, name]) => {
    return `${label} ${figure(name, valueIn(sample, group, name))
      .join(' ')
      .trim()}`;
  });
  return words.join(' · ');
}

/** @param {Sample} sample */
export function showSample(sample) {
  if (sample.at <= shownAt) return; // A replay: the tiles have shown it.
  shownAt = sample.at;
  for (const shown of [...FIGURES, ...furtherFigures(sample)]) showTile(shown, sample);
  element('tiles').hidden = false;
}

export function hideTiles() {
  element('tiles').hidden = true;
}

/**
 * The first two numbers that the server adds of its own, such as `server.connections`.
 *
 * @param {Sample} sample
 * @returns {Figure[]}
 */
function furtherFigures({ groups: { time, host, process, eventLoop, ...further } }) {
  const found = Object.entries(further).flatMap(([group, values]) =>
    Object.entries(isObject(values) ? values : {})
      .filter(([, value]) => typeof value === 'number')
      .map(([name]) => /** @type {Figure} */ ([labelOf(name), group, name])),
  );
  return found.slice(0, 2);
}

/**
 * `Open streams` for `openStreams`.
 *
 * @param {string} name
 */
function labelOf(name) {
  const words = name
    .replace(/(Bytes|Ms|Percent|Seconds)$/, '')
    .replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/**
 * @param {Sample} sample
 * @param {string} group
 * @param {string} name
 */
function valueIn({ groups }, group, name) {
  const values = groups[group];
  const value = isObject(values) ? values[name] : undefined;
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}

/**
 * @param {Figure} shown
 * @param {Sample} sample
 */
function showTile([label, group, name], sample) {
  const tile = tiles.get(`${group}.${name}`) ?? addTile(label, `${group}.${name}`);
  if (tile === undefined) return;
  const value = valueIn(sample, group, name);
  const [number, unit] = figure(name, value);
  tile.number.data = number;
  tile.unit.textContent = unit;
  tile.past.push(value ?? 0);
  if (tile.past.length > MAX_PAST) tile.past.shift();
  drawPast(tile, leastTop(name, sample));
}

/**
 * The smallest value that the full height of a tile may stand for.
 *
 * @param {string} name
 * @param {Sample} sample
 */
function leastTop(name, sample) {
  if (name.endsWith('Percent')) return 100;
  return name === 'memoryUsedBytes' ? (valueIn(sample, 'host', 'memoryTotalBytes') ?? 0) : 0;
}

/**
 * @param {string} label
 * @param {string} path
 * @returns {Tile | undefined}
 */
function addTile(label, path) {
  if (tiles.size >= MAX_TILES) return undefined;
  const tile = {
    number: new Text('–'),
    unit: make('span'),
    line: makeSvg('path', { class: 'spark-line' }),
    area: makeSvg('path', { class: 'spark-area' }),
    past: [],
  };
  const value = make('p');
  value.append(tile.number, tile.unit);
  const picture = makeSvg('svg', {
    viewBox: '0 0 100 30',
    preserveAspectRatio: 'none',
    'aria-hidden': 'true',
  });
  picture.append(tile.area, tile.line);
  const box = make('article', 'tile panel');
  box.append(make('h3', '', label), value, picture);
  element('tiles').append(box);
  tiles.set(path, tile);
  return tile;
}

/**
 * @param {Tile} tile
 * @param {number} least
 */
function drawPast({ past, line, area }, least) {
  const top = Math.max(least, 1e-9, ...past) * 1.1;
  const step = 100 / (MAX_PAST - 1);
  const left = 100 - (past.length - 1) * step;
  const points = past
    .map((value, i) => `${(left + i * step).toFixed(2)} ${(29 - (26 * value) / top).toFixed(2)}`)
    .join('L');
  line.setAttribute('d', `M${points}`);
  area.setAttribute('d', `M${left.toFixed(2)} 30L${points}L100 30Z`);
}
