// Lists what keeps a process alive, without what the test runner or the loader may be reading at the moment.

import { readdirSync, readlinkSync } from 'node:fs';

/** The active resources of the process, sorted, but no request to the file system. */
export function activeResources(): string[] {
  return process
    .getActiveResourcesInfo()
    .filter((name) => !name.startsWith('FSReq'))
    .sort();
}

/** How many descriptors of the process match; 0 where the system does not tell (it is not Linux). */
export function openDescriptors(matches: (target: string) => boolean): number {
  if (process.platform !== 'linux') return 0;
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return matches(readlinkSync(`/proc/self/fd/${fd}`));
    } catch {
      return false; // the one that `readdirSync` itself had open
    }
  }).length;
}
