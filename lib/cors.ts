// Says which other origins' pages may read the answers, and answers their preflights.
// Stands alone: copy this file by itself.

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
  /** The origins that may, written as browsers send them; `'*'` for all; or a function. Never `null`. */
  origins: '*' | readonly string[] | ((origin: string, req: Req) => boolean);
  /** Whether they may send cookies, `Authorization` set by the browser, and client certificates; default false. */
  credentials?: boolean | undefined;
  /** Default `GET`, `HEAD`, `POST`, which need no permission; list others that are served. */
  methods?: readonly string[] | undefined;
  /** Request headers that scripts may set; default `Authorization`, `Content-Type`, `Last-Event-ID`. */
  headers?: readonly string[] | undefined;
  /** Answer headers that scripts may read, beside those that they always may; default none. */
  exposedHeaders?: readonly string[] | undefined;
  /** Milliseconds for which a browser may keep a preflight's answer; default 600,000. Sent as whole seconds. */
  maxAge?: number | undefined;
}

export type Cors<Req extends CorsRequest = CorsRequest> = (
  req: Req,
  res: CorsResponse,
  next: () => unknown,
) => unknown;

const MAX_AGE = 2 ** 31 - 1;

/**
 * A middleware that sets the CORS headers of every answer and ends preflights with 204.
 *
 * It refuses nobody: a browser does that, and only for reading. Put `guard` before it to keep requests out.
 *
 * The trap: `res.writeHead(200, { vary: … })` further on replaces the `Vary` set here; use `appendHeader`.
 *
 * @throws {TypeError} for `*` or a wildcard together with credentials, for `null`, for what no browser sends
 *   as an origin (saying what to write), and for what is no method or header name.
 * @throws {RangeError} when `maxAge` is out of range.
 * @see https://fetch.spec.whatwg.org/#http-cors-protocol
 */
export function cors<Req extends CorsRequest = CorsRequest>(options: CorsOptions<Req>): Cors<Req> {
  const { origins, credentials = false, maxAge = 600_000 } = options;
  const { methods = ['GET', 'HEAD', 'POST'], exposedHeaders = [] } = options;
  const { headers = ['Authorization', 'Content-Type', 'Last-Event-ID'] } = options;
  const any = origins === '*' || (Array.isArray(origins) && origins.includes('*'));
  if (any && credentials) throw new TypeError('`origins` must not be "*" together with `credentials`');
  const allowed = typeof origins === 'function' ? origins : any ? undefined : listed(origins as string[]);
  const lists = { methods, headers, exposedHeaders };
  const [allowMethods, allowHeaders, exposeHeaders] = Object.entries(lists).map(([name, list]) =>
    joinTokens(name, list, credentials),
  );
  const maxAgeSeconds = String(toSeconds(maxAge));

  /** What `Access-Control-Allow-Origin` is to be. */
  const grant = (req: Req): string | undefined => {
    if (allowed === undefined) return '*';
    const origin = header(req, 'origin');
    return origin !== undefined && origin !== 'null' && allowed(origin, req) ? origin : undefined;
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
    // Even without an Origin: a cache must not give this answer to a page of one.
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
    // With credentials a browser takes the wildcard for a name like any other.
    if (name === '*' && credentials)
      throw new TypeError(`\`${option}\` must not hold "*" together with \`credentials\``);
  }
  return list.join(', ');
}

function toSeconds(maxAge: number): number {
  if (maxAge === 0 || (maxAge >= 1000 && maxAge <= MAX_AGE)) return Math.floor(maxAge / 1000);
  throw new RangeError(`\`maxAge\` must be 0 or from 1000 to ${MAX_AGE} milliseconds, got ${maxAge}`);
}

function listed(origins: readonly string[]): (origin: string) => boolean {
  if (!Array.isArray(origins))
    throw new TypeError(`\`origins\` must be a list, a function or "*", got ${show(origins)}`);
  const set = new Set(origins.map(checkOrigin));
  return (origin) => set.has(origin);
}

// Of apps, such as capacitor://localhost; to URL these have no origin.
const APP_ORIGIN = /^(?!https?:)[a-z][a-z0-9+.-]*:\/\/[a-z0-9._-]+(:\d+)?$/;

/** Browsers send an origin in one form only: whatever is written otherwise would never match. */
function checkOrigin(origin: string): string {
  if (origin === 'null') throw new TypeError('`origins` must not hold "null": any sandboxed page sends it');
  if (typeof origin === 'string' && (APP_ORIGIN.test(origin) || asOrigin(origin) === origin)) return origin;
  const advice = asOrigin(origin) ?? asOrigin(`https://${origin}`) ?? 'https://example.com';
  throw new TypeError(`\`origins\` must hold origins, got ${show(origin)}: write ${show(advice)}`);
}

function asOrigin(text: string): string | undefined {
  // URL itself takes a `*` for part of a name.
  const origin = URL.canParse(text) && !text.includes('*') ? new URL(text).origin : 'null';
  return origin === 'null' ? undefined : origin;
}

function show(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}
