// Writes a report as JSON for `compare` and other programs, and reads it.

import { readFileSync } from 'node:fs';
import { Misuse } from '../options.ts';
import { aggregate } from './aggregate.ts';
import type { Report } from './report.ts';

const FORMAT = 'sluice-bench 1';

/** The whole report with every run, and with the summaries of its groups. */
export function toJson(report: Report): string {
  return `${JSON.stringify({ format: FORMAT, ...report, groups: aggregate(report.runs) }, undefined, 1)}\n`;
}

/** @throws {Misuse} naming the file, when it is not such a report. */
export function readReport(path: string): Report {
  let read: { format?: unknown } | undefined;
  try {
    read = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new Misuse(`${path} cannot be read: ${(error as Error).message}`);
  }
  if (read?.format !== FORMAT) throw new Misuse(`${path} is no report of "${FORMAT}"`);
  return read as unknown as Report;
}
