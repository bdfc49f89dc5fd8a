// Writes numbers, sizes and times for people, and reads JSON that may be none.

/**
 * A number and its unit. The unit is the end of the name: `rssBytes`, `cpuPercent`, `p99Ms`, `uptimeSeconds`.
 *
 * @param {string} name
 * @param {unknown} value
 * @returns {[number: string, unit: string]}
 */
export function figure(name, value) {
  if (typeof value !== 'number' || !Number.isFinite(value)) return ['–', ''];
  if (name.endsWith('Bytes')) return bytes(value);
  if (name.endsWith('Percent')) return [value.toFixed(value < 10 ? 1 : 0), '%'];
  if (name.endsWith('Ms')) return [value.toFixed(value < 10 ? 2 : 0), 'ms'];
  if (name.endsWith('Seconds')) return [value.toLocaleString('en'), 's'];
  return [value.toLocaleString('en', { maximumFractionDigits: 2 }), ''];
}

/**
 * @param {number} value
 * @returns {[number: string, unit: string]}
 */
export function bytes(value) {
  const units = ['kB', 'MB', 'GB', 'TB'];
  let unit = 'B';
  while (value >= 999.5 && units.length > 0) {
    value /= 1000;
    unit = units.shift() ?? unit;
  }
  const isWhole = unit === 'B' || value >= 99.5;
  return [isWhole ? Math.round(value).toLocaleString('en') : value.toFixed(1), unit];
}

/**
 * `1 event`, `2,000 events`.
 *
 * @param {number} number
 * @param {string} noun
 */
export function count(number, noun) {
  return `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`;
}

/**
 * The local time of day, with milliseconds.
 *
 * @param {Date} date
 */
export function clock(date) {
  const parts = [date.getHours(), date.getMinutes(), date.getSeconds()];
  const time = parts.map((part) => String(part).padStart(2, '0')).join(':');
  return `${time}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

/**
 * `undefined` for text that is not JSON.
 *
 * @param {string} text
 * @returns {unknown}
 */
export function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
export function isObject(value) {
  return typeof value === 'object' && value !== null;
}
