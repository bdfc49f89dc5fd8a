// Reads and type-checks the examples of a document, and serves what those of docs/client.md ask for.
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { encode } from '../../lib/encode.ts';
import { gapEvent, parseId, readyEvent } from '../../lib/protocol.ts';
import { cutAfter, EPOCH, idOf, open, seqOf, whole } from './misbehaving.ts';
import { openServer, type TestServer } from './server.ts';

export interface Example {
  readonly language: string;
  readonly code: string;
}

/** Every fenced example by its name. One without a name is an error, because no test would run it. */
export function examplesOf(path: URL): Map<string, Example> {
  const text = readFileSync(path, 'utf8');
  const examples = new Map<string, Example>();
  for (const [, name, language, code] of text.matchAll(
    /(?:<!-- example: (\S+) -->\n)?```(\w+)\n(.*?)```\n/gs,
  )) {
    if (name === undefined || examples.has(name))
      throw new Error(`an example needs a name of its own:\n${code}`);
    examples.set(name, { language: language!, code: code! });
  }
  return examples;
}

/** The code of an example, changed to import from lib/. */
export function here(code: string): string {
  const lib = new URL('../../lib/', import.meta.url);
  const pathOf = (name: string): string => fileURLToPath(new URL(`${name}.ts`, lib));
  return code.replace(/'sluice(?:\/([\w-]+))?'/g, (_, name = 'index') => `'${pathOf(name)}'`);
}

/** The code of an example, changed to import from lib/ and to ask this server. */
export function runnable({ code }: Example, origin: string): string {
  return here(code).replaceAll('http://localhost:8080', origin);
}

const pathTo = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));

const COMPILER_OPTIONS = {
  strict: true,
  noEmit: true,
  module: 'nodenext',
  target: 'es2023',
  lib: ['es2024'],
  types: ['node'],
  typeRoots: [pathTo('node_modules/@types')],
  allowImportingTsExtensions: true,
  skipLibCheck: true,
};

/** What the compiler reports about files under `strict`; `''` where it has no complaint. Writes this configuration. */
export async function typeErrorsIn(
  config: string,
  files: readonly string[],
  options: object = {},
): Promise<string> {
  writeFileSync(config, JSON.stringify({ compilerOptions: { ...COMPILER_OPTIONS, ...options }, files }));
  const compiler = pathTo('node_modules/typescript/bin/tsc');
  const checked = promisify(execFile)(process.execPath, [compiler, '-p', config]);
  return checked.then(({ stdout }) => stdout).catch(({ stdout, stderr }) => `${stdout}${stderr}`);
}

/** The same about code, which the compiler reads from this file. */
export async function typeErrorsOf(file: string, code: string): Promise<string> {
  writeFileSync(file, code);
  return typeErrorsIn(`${file}.tsconfig.json`, [file]);
}

const topics = ['prices'];
const tick = (seq: number): string =>
  encode({ id: idOf(seq), event: 'tick', data: JSON.stringify({ price: 7 + seq / 4 }) });
const ready = (seq: number): string =>
  encode({ retry: 1000, ...readyEvent(idOf(seq), topics, { heartbeat: null }) });
const gap = (from: string): string =>
  encode(gapEvent(idOf(0), { reason: 'unknown-epoch', from, to: idOf(0), topics }));
const end = 'event: sluice:end\ndata: {}\n\n';

/** Answers as `sluice openServer` does where the examples expect that. Other paths are the caller's. */
export function serveExamples(
  other: (req: IncomingMessage, res: ServerResponse, path: string) => void,
): Promise<TestServer> {
  const published: string[] = [];
  const tickets = new Set<string>();
  let flaky = 0;
  const json = (res: ServerResponse, value: unknown): void => {
    res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  };
  return openServer((req, res) => {
    const { pathname, searchParams } = new URL(req.url!, 'http://localhost');
    const lastEventId = (req.headers['last-event-id'] ?? searchParams.get('lastEventId') ?? '') as string;
    if (pathname === '/events' && searchParams.get('topic') === 'news') {
      whole(res, published.map((data, n) => encode({ id: idOf(n + 1), data })).join(''));
    } else if (pathname === '/events') {
      const isOurs = parseId(lastEventId)?.epoch === EPOCH;
      const from = isOurs ? seqOf(lastEventId) : 0;
      const opening = ready(from) + (lastEventId === '' || isOurs ? '' : gap(lastEventId));
      whole(
        res,
        opening +
          [1, 2, 3]
            .filter((seq) => seq > from)
            .map(tick)
            .join('') +
          end,
      );
    } else if (pathname === '/flaky') {
      flaky++;
      if (flaky % 3 === 1) cutAfter(res, 'data: first\n\n');
      else if (flaky % 3 === 2) res.writeHead(503, { 'retry-after': '0' }).end();
      else whole(res, `data: second\n\n${end}`);
    } else if (pathname === '/chat' && req.method === 'POST') {
      req
        .resume()
        .on('end', () => whole(res, 'data: {"text":"Hel"}\n\ndata: {"text":"lo."}\n\ndata: [DONE]\n\n'));
    } else if (pathname === '/runs' && req.headers.authorization !== 'Bearer fresh') {
      res.writeHead(401, { 'retry-after': '0' }).end();
    } else if (pathname === '/runs') {
      res.setHeader('location', '/runs/7');
      res.setHeader('content-type', 'text/event-stream');
      cutAfter(res, encode({ id: idOf(1), data: 'hello' }));
    } else if (pathname === '/runs/7' && req.method === 'GET' && lastEventId === idOf(1)) {
      whole(res, encode({ id: idOf(2), data: 'again' }) + end);
    } else if (pathname === '/forbidden') {
      res.writeHead(403, { 'content-type': 'text/plain', 'x-request-id': '17' }).end('Members only.');
    } else if (pathname === '/topics/news' && req.method === 'POST') {
      let body = '';
      req.setEncoding('utf8').on('data', (text) => {
        body += text;
      });
      req.on('end', () => {
        const lines = body.trimEnd().split('\n');
        for (const line of lines) published.push(JSON.parse(line).data);
        json(res, { ids: lines.map((_, n) => idOf(published.length - lines.length + n + 1)) });
      });
    } else if (pathname === '/login' && req.method === 'POST') {
      res.writeHead(204, { 'set-cookie': 'session=1; HttpOnly; SameSite=Lax' }).end();
    } else if (pathname === '/private') {
      if (req.headers.cookie === 'session=1') open(res, 'event: tick\ndata: welcome\n\n');
      else res.writeHead(401).end();
    } else if (pathname === '/ticket' && req.headers.authorization === 'Bearer secret') {
      const ticket = Math.random().toString(36).slice(2);
      tickets.add(ticket);
      json(res, { ticket });
    } else if (pathname === '/ticketed') {
      if (!tickets.delete(searchParams.get('ticket')!)) return void res.writeHead(401).end();
      const seq = seqOf(lastEventId) + 1;
      whole(res, encode({ id: idOf(seq), event: 'tick', data: `${seq} ` }));
    } else {
      other(req, res, pathname);
    }
  });
}
