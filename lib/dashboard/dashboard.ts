// Serves the dashboard of the reference server: its topics and live events.
// Needs the HTML, CSS, SVG and JavaScript files beside it.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { extname } from 'node:path';

/** The members of a request that are used. */
interface DashboardRequest {
  readonly headers: { readonly 'if-none-match'?: string | undefined };
}

/** The members of a response that are used: those of HTTP/1 and HTTP/2 alike. */
interface DashboardResponse {
  writeHead(status: number, headers: Record<string, string>): unknown;
  end(body?: Buffer): unknown;
}

/**
 * Answers a GET or HEAD request with the page, or with one of the files that it loads. Where there is no such
 * file, sends nothing and returns `false`.
 *
 * Serve the page at any path that ends in a slash, and its files below `dashboard/` there: for `/`, the
 * routes are `/` and `/dashboard/:file`. The page requests `topics`, `position`, `events` and
 * `metrics/recent` beside its own path.
 */
export function serveDashboard(
  { req, res }: { readonly req: DashboardRequest; readonly res: DashboardResponse },
  file?: string,
): boolean {
  if (file !== undefined && !FILES.has(file)) return false;
  const { body, type, etag } = load(file ?? 'index.html');
  const headers = { ...HEADERS, etag };
  if (req.headers['if-none-match']?.includes(etag)) {
    res.writeHead(304, headers);
    res.end();
  } else {
    res.writeHead(200, { ...headers, 'content-type': type, 'content-length': String(body.length) });
    res.end(body);
  }
  return true;
}

/** The files that the page loads. */
const FILES: ReadonlySet<string> = new Set(
  [
    'style.css events.css charts.css icon.svg app.js chart.js commands.js connection.js decode.js decode-bytes.js detail.js',
    'download.js elements.js entries.js figures.js filter.js list.js protocol.js publish.js requests.js',
    'store.js stream.js tiles.js timeline.js topics.js tour.js tree.js',
  ].flatMap((names) => names.split(' ')),
);

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

const HEADERS: Readonly<Record<string, string>> = {
  // The page loads from this origin only, and inserts the data that it receives as text.
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-cache',
};

interface LoadedFile {
  readonly type: string;
  readonly body: Buffer;
  readonly etag: string;
}

const loaded = new Map<string, LoadedFile>();

/** Reads a file when it is first requested, and keeps it. */
function load(name: string): LoadedFile {
  let file = loaded.get(name);
  if (file === undefined) {
    const body = readFileSync(new URL(name, import.meta.url));
    const etag = `"${createHash('sha256').update(body).digest('base64url')}"`;
    file = { body, type: TYPES[extname(name)] ?? 'application/octet-stream', etag };
    loaded.set(name, file);
  }
  return file;
}
