// Formats figures for people.

import { type Figure, figures, type Run } from '../scenarios/scenario.ts';
import type { Summary } from './report.ts';

export function number(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toFixed(size >= 1e7 ? 1 : 2)} M`;
  if (size >= 1000) return Math.round(value).toLocaleString('en');
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return size === 0 ? '0' : value.toFixed(2);
}

/** The median, with its confidence interval from three runs on. */
export function withInterval({ count, median, low, high }: Summary): string {
  return count < 3 ? number(median) : unbroken(`${number(median)} [${number(low)} – ${number(high)}]`);
}

/** Keeps a text on one line in a narrow column. */
export function unbroken(text: string): string {
  return text.replaceAll(' ', '\u00a0');
}

export function times({ median }: Summary): string {
  return `${number(median)} ×`;
}

export function withUnit(summary: Summary, figure: Figure): string {
  return `${number(summary.median)} ${figures[figure].unit}`;
}

/** The value of a parameter, with separators in large numbers. */
export function parameter(value: string | number | undefined): string {
  return value === undefined ? '–' : value.toLocaleString('en');
}

export function parametersOf(parameters: Run['parameters']): string {
  return Object.entries(parameters)
    .map(([name, value]) => (typeof value === 'number' ? `${name} ${parameter(value)}` : value))
    .join(', ');
}

/** The most important figures first. */
const HEADLINES: readonly Figure[] = [
  'cpuPerMissed',
  'cpuPerDelivery',
  'rssPerConnection',
  'cpuPerConnect',
  'cpuPercent',
  'nanoseconds',
  'megabytesPerSecond',
  'heldBytes',
  'heapBytes',
  'evenness',
  'deliveriesPerSecond',
  'connectsPerSecond',
  'rssGrowth',
  'p99',
  'seconds',
];

export function headlineOf(has: (figure: Figure) => boolean): Figure | undefined {
  return HEADLINES.find(has) ?? (Object.keys(figures) as Figure[]).find(has);
}

/** As text or an attribute in HTML. */
export function escaped(text: string): string {
  return text.replace(
    /[&<>"]/g,
    (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign]!,
  );
}
