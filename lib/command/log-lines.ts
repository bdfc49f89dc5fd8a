// Writes what a server logs to stderr: JSON lines for programs, plain lines for people.
// Needs `../server.ts`, `colors.ts` and `io.ts` beside it.

import type { LogLine } from '../server.ts';
import { type Color, paintFor } from './colors.ts';
import { type CommandIo, escapeControls, jsonLine } from './io.ts';

export const LEVELS = ['info', 'warn', 'error'] as const;
export const FORMATS = ['json', 'text'] as const;

interface LogLinesOptions {
  /** The least level that is written; default `info`, which is all. */
  readonly level?: LogLine['level'] | undefined;
  /** Default: `text` on a terminal, otherwise `json`. */
  readonly format?: (typeof FORMATS)[number] | undefined;
  /** Members of each line. */
  readonly details?: object | undefined;
}

/**
 * Returns a logger that writes one JSON object a line, or a line such as
 * `15:04:05 warn  refused reason=unauthorized status=401` in local time. Text of other sources cannot move the
 * cursor of a terminal. A message of several lines, such as a stack, comes last and is indented.
 */
export function logLinesTo(
  { stderr, env }: Pick<CommandIo, 'stderr' | 'env'>,
  { level = 'info', format = stderr.isTTY ? 'text' : 'json', details = {} }: LogLinesOptions,
): (line: LogLine) => void {
  const paint = paintFor(stderr, env);
  const least = LEVELS.indexOf(level);
  return (line) => {
    if (LEVELS.indexOf(line.level) < least) return;
    const time = new Date();
    if (format === 'json') {
      stderr.write(jsonLine({ time: time.toISOString(), ...details, ...line }));
      return;
    }
    const { level: word, event, message, ...rest } = { ...details, ...line };
    const members = Object.entries(rest).flatMap(([name, value]) =>
      value === undefined ? [] : [paint('dim', `${name}=`) + textOf(value)],
    );
    const first = `${paint('dim', time.toTimeString().slice(0, 8))} ${paint(COLORS[word], word.padEnd(5))} ${event}`;
    const said = message === undefined ? [] : [escapeControls(String(message)).replaceAll('\n', '\n    ')];
    stderr.write(`${[first, ...members, ...said].join(' ')}\n`);
  };
}

const COLORS: Readonly<Record<LogLine['level'], Color>> = { info: 'green', warn: 'yellow', error: 'red' };

/** A plain word as it is, anything else as JSON. */
function textOf(value: unknown): string {
  const json = JSON.stringify(value);
  return escapeControls(/^"[\w.:/@~-]+"$/.test(json) ? json.slice(1, -1) : json);
}
