// Starts the bench command in a process of its own, for tests, and shows what it does.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { childrenOf } from '../loads/lead.ts';
import { readReport } from './json.ts';
import type { Report } from './report.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** A process that the command has started. */
export interface Part {
  readonly pid: number;
  /** Its program. */
  readonly path: string;
  readonly argv: readonly string[];
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** `undefined` where it wrote none. */
  readonly report: Report | undefined;
  /** The reports that it wrote: JSON, Markdown, HTML. */
  readonly paths: readonly string[];
}

export interface StartedBench {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves when it has printed this on standard error. @throws when it ends without. */
  said(pattern: RegExp): Promise<void>;
  /** The servers, readers and benches that run now. */
  parts(): Part[];
}

/** @param flags for Node. */
export function startBench(
  argv: readonly string[],
  out: string,
  flags: readonly string[] = [],
): StartedBench {
  const program = [...flags, '--import', import.meta.resolve('tsx'), join(root, 'bench/run.ts')];
  const child = spawn(process.execPath, [...program, ...argv, '--out', out], {
    cwd: root,
    // A process group of its own, which can get a signal as a terminal sends it.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr, isOver] = ['', '', false];
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  const ended = once(child, 'close').then(([code]): Ended => {
    isOver = true;
    const paths = stdout.split('\n').filter((line) => line.startsWith(out));
    const json = paths.find((path) => path.endsWith('.json'));
    return { code, stdout, stderr, paths, report: json === undefined ? undefined : readReport(json) };
  });
  return {
    child,
    ended,
    said: async (pattern) => {
      while (!pattern.test(stderr)) {
        if (isOver) throw new Error(`it ended without ${pattern}: ${stderr}`);
        await sleep(10);
      }
    },
    parts: () => partsOf(child.pid!),
  };
}

function partsOf(pid: number): Part[] {
  try {
    return childrenOf(pid).flatMap((child): Part[] => {
      try {
        const argv = readFileSync(`/proc/${child}/cmdline`, 'utf8').split('\0');
        return [{ pid: child, path: readlinkSync(`/proc/${child}/exe`), argv }];
      } catch {
        return [];
      }
    });
  } catch {
    return [];
  }
}
