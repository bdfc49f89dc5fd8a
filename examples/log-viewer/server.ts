// Shows the lines of a file in a page, while they are written, through rotation and truncation of the file.
// Needs `page.html`, `page.js` and `page.css` beside it, the folder `shared`, and sluice.
//
//   npx tsx examples/log-viewer/server.ts FILE [--port 8080] [--folder FOLDER]

import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { publishFrom } from '../../lib/feed.ts';
import { decode, Hub, serveEvents } from '../../lib/index.ts';
import { createLineSplitter } from '../../lib/lines.ts';
import { sendJson } from '../../lib/problem.ts';
import { SqliteLog } from '../../lib/sqlite.ts';
import { tailFile } from '../../lib/tail-file.ts';
import { argumentsOf, leave, numberOf, serve } from '../shared/site.ts';

/** A line of the file. */
interface Line {
  /** Counted from 1 on. After a rotation and a truncation, the count goes on. */
  readonly number: number;
  readonly text: string;
  /** Where it is in its file, for the next process. */
  readonly place: Place;
}

/** A place after a line of a file. */
interface Place {
  /** How many lines are before it. */
  readonly lines: number;
  /** Made of all of them: where a file has another one after as many lines, it is another file. */
  readonly seal: string;
}

const START: Place = { lines: 0, seal: '' };

const TOPIC = 'lines';

const { values, positionals } = argumentsOf({
  allowPositionals: true,
  options: {
    port: { type: 'string', default: '8080' },
    /** Has the database. */
    folder: { type: 'string', default: join(import.meta.dirname, 'running') },
  },
});
if (positionals.length !== 1) leave('name the file to show: server.ts FILE');
const file = resolve(positionals[0]!);
const log = openLog();
const hub = new Hub<{ message: Line }>({ retry: 500, log });
const stopped = new AbortController();

await serve({
  folder: import.meta.dirname,
  port: numberOf('--port', values.port, 0, 65_535),
  routes: {
    'GET /source': (_req, res) =>
      sendJson(res, 200, { file: basename(file), keptIn: log === undefined ? 'memory' : 'SQLite' }),
  },
  events: serveEvents(hub, { path: '/events', topics: TOPIC }),
  onStopping: () => stopped.abort(),
  onStopped: () => hub.close(),
});
console.log(`lines are kept in ${log === undefined ? 'memory: this Node has no SQLite' : 'SQLite'}`);
await publishFrom(hub, TOPIC, newLines(await newestLine()), {
  signal: stopped.signal,
  // Control characters take six bytes each in JSON, so a line of 1 MiB can be too large for an event.
  onRefuse: ({ error }) => {
    if ((error as { code?: unknown }).code !== 'ERR_SSE_EVENT_TOO_LARGE') throw error;
    return 'skip';
  },
}).catch((error: unknown) => {
  if (!stopped.signal.aborted) leave(`${file} cannot be followed: ${(error as Error).message}`);
});

/** Each file has a database of its own. `undefined` on a Node without SQLite. */
function openLog(): SqliteLog | undefined {
  mkdirSync(values.folder, { recursive: true });
  const name = createHash('sha256').update(file).digest('hex').slice(0, 16);
  try {
    return new SqliteLog(join(values.folder, `${name}.db`));
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ERR_SSE_SQLITE_MISSING') throw error;
    return undefined;
  }
}

/** The line that was published last, by the process before this one. */
async function newestLine(): Promise<Line | undefined> {
  if (log === undefined) return undefined;
  const { entries } = log.read([TOPIC], log.beforeNewest([TOPIC], 1), 1, { newestOnly: false });
  for await (const { data } of decode(entries.map(({ frame }) => frame))) return JSON.parse(data);
  return undefined;
}

/** The lines of the file after one of them: also those that were written while no server ran. */
async function* newLines(newest: Line | undefined): AsyncGenerator<{ json: Line }> {
  let number = newest?.number ?? 0;
  let known = newest !== undefined && (await has(newest.place)) ? newest.place.lines : 0;
  let place = START;
  const onStartAgain = (): void => {
    place = START;
    known = 0;
  };
  const { signal } = stopped;
  for await (const text of tailFile(file, { from: 'start', wait: true, onStartAgain, signal })) {
    place = after(place, text);
    if (place.lines > known) yield { json: { number: ++number, text, place } };
  }
}

function after({ lines, seal }: Place, text: string): Place {
  const hash = createHash('sha256').update(seal).update(text).digest('base64url');
  return { lines: lines + 1, seal: hash.slice(0, 12) };
}

/** Whether the file has this place. Otherwise it is another file, and all of its lines are new. */
async function has({ lines, seal }: Place): Promise<boolean> {
  const splitter = createLineSplitter();
  let place = START;
  try {
    for await (const piece of createReadStream(file))
      for (const text of splitter.push(piece)) {
        place = after(place, text);
        if (place.lines === lines) return place.seal === seal;
      }
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ENOENT') throw error;
  }
  return false;
}
