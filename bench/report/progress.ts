// Shows progress on standard error: a bar on a terminal, else a line for each step.

import { SingleBar } from 'cli-progress';

export interface Bar {
  /** Begins a step. @param left expected seconds until the end of the last step. */
  begin(what: string, left: number): void;
  /** Prints a line above the bar. */
  say(line: string): void;
  stop(): void;
}

export function startBar(): Bar {
  return process.stderr.isTTY ? terminalBar() : lines();
}

const elapsedSince = (start: number): number => (performance.now() - start) / 1000;

function lines(): Bar {
  const start = performance.now();
  return {
    begin: (what, left) => {
      const elapsed = elapsedSince(start);
      console.error(`${clock(elapsed)} of ${clock(elapsed + left)}  ${what}`);
    },
    say: (line) => console.error(line),
    stop: () => {},
  };
}

function terminalBar(): Bar {
  const start = performance.now();
  let now = { what: '', left: 0, since: start };
  const format = '{bar} {elapsed} of {expected}  {what}';
  const bar = new SingleBar({
    format,
    stream: process.stderr,
    barsize: 24,
    hideCursor: true,
    gracefulExit: false,
  });
  const show = () => {
    const elapsed = elapsedSince(start);
    // A step that takes longer than expected moves the end.
    const total = elapsed + Math.max(1, now.left - elapsedSince(now.since));
    bar.setTotal(total);
    bar.update(elapsed, { elapsed: clock(elapsed), expected: clock(total), what: now.what });
  };
  bar.start(1, 0, { elapsed: clock(0), expected: '?', what: '' });
  const timer = setInterval(show, 1000);
  return {
    begin: (what, left) => {
      now = { what, left, since: performance.now() };
      show();
    },
    say: (line) => {
      process.stderr.write(`\r\x1b[K${line}\n`);
      show();
    },
    stop: () => {
      clearInterval(timer);
      bar.stop();
    },
  };
}

function clock(seconds: number): string {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}
