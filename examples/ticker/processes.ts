// Reads the processes of this machine from `/proc`, which Linux has.
// Stands alone: copy this file by itself.

import { readdirSync, readFileSync } from 'node:fs';

export interface Process {
  readonly pid: number;
  /** The name of its program, of at most 15 characters. Its arguments are not read: they may be secret. */
  readonly name: string;
  /** Of one core, since the sample before: 100 is a core that was busy all the time. */
  readonly cpuPercent: number;
  readonly memoryBytes: number;
}

/** The kernel counts in hundredths of a second, on all platforms of Node. */
const TICKS_A_SECOND = 100;

export class ProcessSampler {
  #at = performance.now();
  /** The ticks that each process has used, by its pid and the time of its start. */
  #ticks = new Map<string, number>();

  /** Those that run at present. The first sample has no `cpuPercent` but 0. */
  sample(): Process[] {
    const now = performance.now();
    const seconds = Math.max(0.001, (now - this.#at) / 1000);
    const before = this.#ticks;
    this.#at = now;
    this.#ticks = new Map();
    const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
    return pids.flatMap((pid) => this.#read(pid, seconds, before) ?? []);
  }

  /** `undefined` where it has ended meanwhile. */
  #read(pid: string, seconds: number, before: ReadonlyMap<string, number>): Process | undefined {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      // The name is in brackets, and may have brackets itself. Of the fields after it, the state is the third of all.
      const name = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const [user, system, start] = [11, 12, 19].map((field) => Number(fields[field])) as [
        number,
        number,
        number,
      ];
      const life = `${pid}-${start}`;
      this.#ticks.set(life, user + system);
      const used = user + system - (before.get(life) ?? user + system);
      const resident = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
      return {
        pid: Number(pid),
        name,
        cpuPercent: Math.round((100 * used) / TICKS_A_SECOND / seconds),
        memoryBytes: Number(resident ?? 0) * 1024,
      };
    } catch {
      return undefined;
    }
  }
}
