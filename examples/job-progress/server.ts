// Hashes the files of a folder as a job: with progress, a result, and an end for who cancels it.
// Needs `hash-folder.ts`, `page.html`, `page.js` and `page.css` beside it, the folder `shared`, and sluice.
//
//   npx tsx examples/job-progress/server.ts FOLDER [--port 8080]

import { randomUUID } from 'node:crypto';
import { statSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { Hub, serveEvents } from '../../lib/index.ts';
import { httpError, sendJson } from '../../lib/problem.ts';
import { argumentsOf, leave, numberOf, serve } from '../shared/site.ts';
import { type Hashed, hashFolder, type Progress } from './hash-folder.ts';

type State = 'running' | 'done' | 'cancelled' | 'failed';

interface Job {
  /** Also the name of its topic. */
  readonly id: string;
  /** The position before its first event: who begins there gets all of it. */
  readonly start: string;
  readonly startedAt: string;
  state: State;
  readonly abort: AbortController;
  readonly files: Hashed[];
}

/** The events of a job. Its topic ends with one of the last three. */
type JobEvents = {
  progress: Progress;
  file: Hashed;
  done: Progress & { seconds: number };
  cancelled: object;
  failed: { message: string };
};

const MAX_RUNNING = 2;
const MAX_JOBS = 20;
/** A reader that comes late gets the events of so many files, and after that a gap. */
const HISTORY = { maxEvents: 50_000, maxBytes: 16 * 1024 * 1024 };

const { values, positionals } = argumentsOf({
  allowPositionals: true,
  options: { port: { type: 'string', default: '8080' } },
});
if (positionals.length !== 1) leave('name the folder whose files are hashed: server.ts FOLDER');
const folder = resolve(positionals[0]!);
if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) leave(`"${folder}" is not a folder`);

const hub = new Hub<JobEvents>({ retry: 500, history: HISTORY });
const jobs = new Map<string, Job>();

await serve({
  folder: import.meta.dirname,
  port: numberOf('--port', values.port, 0, 65_535),
  events: serveEvents(hub, { path: '/events', may: (_principal, topic) => jobs.has(topic) }),
  routes: {
    'GET /jobs': (_req, res) =>
      sendJson(res, 200, { folder: basename(folder), jobs: [...jobs.values()].map(describe) }),
    'POST /jobs': (_req, res) => {
      const running = [...jobs.values()].filter(({ state }) => state === 'running').length;
      if (running >= MAX_RUNNING)
        throw httpError({
          status: 503,
          error: 'busy',
          message: `${running} jobs run already: cancel one, or wait`,
        });
      sendJson(res, 201, describe(startJob()));
    },
    'DELETE /jobs/:id': (_req, res, params) => {
      const job = jobOf(params.id);
      const isRunning = job.state === 'running';
      job.abort.abort();
      sendJson(res, 200, { cancelled: isRunning });
    },
    // As `sha256sum` writes it: `sha256sum --check` reads it.
    'GET /jobs/:id/result': (_req, res, params) => {
      const { state, files } = jobOf(params.id);
      if (state !== 'done') throw notFound('this job has no result');
      const lines = files.flatMap(({ path, digest }) => (digest === undefined ? [] : lineOf(path, digest)));
      res.writeHead(200, {
        'content-type': 'text/plain; charset=utf-8',
        'x-content-type-options': 'nosniff',
        'content-disposition': 'attachment; filename="SHA256SUMS"',
      });
      res.end(lines.join(''));
    },
  },
  onStopping: () => {
    for (const { abort } of jobs.values()) abort.abort();
  },
  onStopped: () => hub.close(),
});

function startJob(): Job {
  const id = randomUUID();
  const job: Job = {
    id,
    start: hub.position,
    startedAt: new Date().toISOString(),
    state: 'running',
    abort: new AbortController(),
    files: [],
  };
  jobs.set(id, job);
  forgetOld();
  run(job);
  return job;
}

/** Runs whether anybody reads or not. Never rejects. */
async function run(job: Job): Promise<void> {
  const { id, files } = job;
  const { signal } = job.abort;
  const began = performance.now();
  try {
    const progress = await hashFolder(folder, {
      signal,
      // The key lets each progress replace the one before, for readers that are behind or come late.
      onProgress: (json) => hub.publish(id, { event: 'progress', key: 'progress', json }),
      // Not faster than readers that keep up.
      onFile: (json) => {
        files.push(json);
        hub.publish(id, { event: 'file', json });
        return hub.ready(id, { signal });
      },
    });
    job.state = 'done';
    const seconds = Math.round(performance.now() - began) / 1000;
    hub.publish(id, { event: 'done', json: { ...progress, seconds } });
  } catch (error) {
    job.state = signal.aborted ? 'cancelled' : 'failed';
    if (signal.aborted) hub.publish(id, { event: 'cancelled', json: {} });
    else {
      console.error(error);
      hub.publish(id, { event: 'failed', json: { message: 'the folder cannot be read' } });
    }
  }
  hub.end(id);
}

function describe({ id, start, startedAt, state }: Job): object {
  return { id, start, startedAt, state };
}

/** A name with a line end would forge a line of its own: it is escaped, and the line begins with a backslash. */
function lineOf(path: string, digest: string): string {
  const escaped = path.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('\r', '\\r');
  return `${escaped === path ? '' : '\\'}${digest}  ${escaped}\n`;
}

function jobOf(id = ''): Job {
  const job = jobs.get(id);
  if (job === undefined) throw notFound('there is no such job');
  return job;
}

function forgetOld(): void {
  for (const { id, state } of jobs.values()) {
    if (jobs.size <= MAX_JOBS) return;
    if (state === 'running') continue;
    jobs.delete(id);
    hub.delete(id);
  }
}

function notFound(message: string): Error {
  return httpError({ status: 404, error: 'not-found', message });
}
