// Finds ports for programs that are told which one to listen on.

import { once } from 'node:events';
import { createServer } from 'node:net';

// Linux gives 32,768 and above to whoever lets it choose, as tests beside this one do all the time: of those, one
// that is free now may not be a second later. Processes that run at the same time begin at different ones.
const FIRST = 11_000;
const LAST = 32_000;
let next = FIRST + (process.pid % 200) * 100;

/** A port of the loopback that nothing listens on, and that nobody gets by chance. */
export async function freePort(): Promise<number> {
  return freePorts(1);
}

/** The first of several such ports in a row. */
export async function freePorts(count: number): Promise<number> {
  for (;;) {
    const first = next + count > LAST ? FIRST : next;
    next = first + count;
    const free = await Promise.all(Array.from({ length: count }, (_, i) => isFree(first + i)));
    if (free.every(Boolean)) return first;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch {
    return false;
  }
  server.close();
  await once(server, 'close');
  return true;
}
