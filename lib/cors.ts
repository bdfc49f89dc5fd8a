// Lets pages of other origins read the answers (CORS), and answers their preflight requests.
// Needs `origin.ts` beside it.

import { type Origins, originRule } from './origin.ts';

/** The members of a request that are used: those of HTTP/1 and HTTP/2 alike. */
export interface CorsRequest {
  readonly method?: string | undefined;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

export interface CorsResponse {
  statusCode: number;
  getHeader(name: string): number | string | readonly string[] | undefined;
  setHeader(name: string, value: string): unknown;
  end(): unknown;
}

export interface CorsOptions<Req extends CorsRequest = CorsRequest> {
  /** The origins that may read, as browsers send them; `'*'` for all; or a function that returns `true`. */
  origins: '*' | Origins<Req>;
  /** Whether their requests may carry cookies and client certificates; default false. */
  credentials?: boolean | undefined;
  /** Default `GET`, `HEAD` and `POST`, which browsers always allow; list others that you serve. */
  methods?: readonly string[] | undefined;
  /**
   * Request headers that scripts may set; default those that readers and publishers of event streams send:
   * `Authorization`, `Cache-Control`, `Content-Type`, `Idempotency-Key`, `Last-Event-ID`.
   */
  headers?: readonly string[] | undefined;
  /**
   * Response headers that scripts may read, beside those that browsers always allow; default `Allow`,
   * `Retry-After` and `WWW-Authenticate`, which explain a refusal.
   */
  exposedHeaders?: readonly string[] | undefined;
  /**
   * Milliseconds for which a browser may cache the answer to a preflight; default 600,000. Sent as whole
   * seconds.
   */
  maxAge?: number | undefined;
}

export type Cors<Req extends CorsRequest = CorsRequest> = (
  req: Req,
  res: CorsResponse,
  next: () => unknown,
) => unknown;

const MAX_AGE = 2 ** 31 - 1;
const ALLOWED = ['Authorization', 'Cache-Control', 'Content-Type', 'Idempotency-Key', 'Last-Event-ID'];
const EXPOSED = ['Allow', 'Retry-After', 'WWW-Authenticate'];

/**
 * Makes a middleware that sets the CORS headers of each answer and ends preflights with 204.
 *
 * It refuses no request: browsers enforce CORS, and only when a page reads the answer. To refuse requests, put
 * `guard` behind it, so that pages of listed origins can read its refusals too.
 *
 * The trap: `res.writeHead(200, { vary: … })` in a later handler replaces the `Vary` that is set here; use
 * `appendHeader`.
 *
 * @throws {TypeError} for `*` together with credentials, for `null`, for an origin in a form that no browser
 *   sends (naming the form to write), and for a name that is no method or header. The middleware throws one
 *   when the function in `origins` returns a promise.
 * @throws {RangeError} when `maxAge` is out of range.
 * @see https://fetch.spec.whatwg.org/#http-cors-protocol
 */
export function cors<Req extends CorsRequest = CorsRequest>(options: CorsOptions<Req>): Cors<Req> {
  const { origins, credentials = false, maxAge = 600_000 } = options;
  const { methods = ['GET', 'HEAD', 'POST'], headers = ALLOWED, exposedHeaders = EXPOSED } = options;
  const any = origins === '*' || (Array.isArray(origins) && origins.includes('*'));
  if (any && credentials) throw new TypeError('`origins` must not be "*" together with `credentials`');
  const isAllowed = any ? undefined : originRule(origins as Origins<Req>);
  const lists = { methods, headers, exposedHeaders };
  const [allowMethods, allowHeaders, exposeHeaders] = Object.entries(lists).map(([name, list]) =>
    joinTokens(name, list, credentials),
  );
  const maxAgeSeconds = String(toSeconds(maxAge));

  /** The value of `Access-Control-Allow-Origin`. */
  const grant = (req: Req): string | undefined => {
    if (isAllowed === undefined) return '*';
    const origin = header(req, 'origin');
    return isAllowed(origin, req) ? origin : undefined;
  };

  const preflight = (res: CorsResponse, granted: boolean) => {
    if (granted) {
      if (allowMethods) res.setHeader('access-control-allow-methods', allowMethods);
      if (allowHeaders) res.setHeader('access-control-allow-headers', allowHeaders);
      res.setHeader('access-control-max-age', maxAgeSeconds);
    }
    res.statusCode = 204;
    res.end();
  };

  return (req, res, next) => {
    const origin = grant(req);
    // Also without an Origin: a cache must not give this answer to a page of another origin.
    if (!any) addVary(res, 'Origin');
    if (origin !== undefined) {
      res.setHeader('access-control-allow-origin', origin);
      if (credentials) res.setHeader('access-control-allow-credentials', 'true');
    }
    if (isPreflight(req)) return preflight(res, origin !== undefined);
    if (origin !== undefined && exposeHeaders) res.setHeader('access-control-expose-headers', exposeHeaders);
    return next();
  };
}

function isPreflight(req: CorsRequest): boolean {
  const { origin, 'access-control-request-method': method } = req.headers;
  return req.method === 'OPTIONS' && origin !== undefined && method !== undefined;
}

function header(req: CorsRequest, name: string): string | undefined {
  const value = req.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}

function addVary(res: CorsResponse, name: string): void {
  const before = res.getHeader('vary');
  const names = before === undefined ? [] : String(before).split(/\s*,\s*/);
  if (names.some((one) => one === '*' || one.toLowerCase() === name.toLowerCase())) return;
  res.setHeader('vary', [...names.filter((one) => one !== ''), name].join(', '));
}

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

function joinTokens(option: string, list: readonly string[], credentials: boolean): string {
  for (const name of list) {
    if (typeof name !== 'string' || !TOKEN.test(name)) {
      throw new TypeError(`\`${option}\` must hold HTTP names, got ${show(name)}`);
    }
    // With credentials, browsers read the wildcard as a plain name.
    if (name === '*' && credentials)
      throw new TypeError(`\`${option}\` must not hold "*" together with \`credentials\``);
  }
  return list.join(', ');
}

function toSeconds(maxAge: number): number {
  if (maxAge === 0 || (maxAge >= 1000 && maxAge <= MAX_AGE)) return Math.floor(maxAge / 1000);
  throw new RangeError(`\`maxAge\` must be 0 or from 1000 to ${MAX_AGE} milliseconds, got ${maxAge}`);
}

function show(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}
