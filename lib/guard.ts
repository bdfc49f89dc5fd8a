// Refuses what no honest client of this server sends: wrong hosts, strange origins, other sites' pages.
// Stands alone: copy this file by itself.

/** The members of a request that are used: those of HTTP/1 and HTTP/2 alike. */
export interface GuardRequest {
  readonly method?: string | undefined;
  readonly httpVersionMajor: number;
  readonly httpVersionMinor: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly rawHeaders: readonly string[];
  readonly socket: { readonly localAddress?: string | undefined };
}

export interface GuardResponse {
  writeHead(status: number, headers: Record<string, string>): unknown;
  end(body: string): unknown;
}

/**
 * Why a request was refused.
 *
 * - `host-missing`, `host-repeated`, `host-malformed` (400): not exactly one well-formed Host header.
 * - `host-not-listed` (421): a name this server does not answer to; so DNS rebinding ends here.
 * - `origin-not-listed` (403): a page of another origin.
 * - `cross-site` (403): a page of another site that sends no Origin, as an image or a form does.
 */
export type GuardReason =
  | 'host-missing'
  | 'host-repeated'
  | 'host-malformed'
  | 'host-not-listed'
  | 'origin-not-listed'
  | 'cross-site';

export interface GuardRefusal<Req extends GuardRequest = GuardRequest> {
  readonly reason: GuardReason;
  readonly status: number;
  readonly req: Req;
}

export interface GuardOptions<Req extends GuardRequest = GuardRequest> {
  /**
   * The hosts answered to: `example.com` on any port, `example.com:8443` on that one; or a function of the
   * lower-case Host header. By default `localhost`, `127.0.0.1` and `[::1]` where a connection came in over
   * loopback, and any elsewhere. Behind a proxy on the same machine, list the public name.
   */
  hosts?: readonly string[] | ((host: string, req: Req) => boolean) | undefined;
  /** The other origins whose pages may call; hand the same to `cors`. The server's own need not be listed. */
  origins?: readonly string[] | ((origin: string, req: Req) => boolean) | undefined;
  /** Lets a link on another site open a page here (a top-level GET), where a function says so; default false, right for streams. */
  navigation?: boolean | ((req: Req) => boolean) | undefined;
  /** Told of every refusal: for the log. */
  onRefuse?: ((refusal: GuardRefusal<Req>) => void) | undefined;
}

export interface Guard<Req extends GuardRequest = GuardRequest> {
  (req: Req, res: GuardResponse, next: () => unknown): unknown;
  /** How many were refused, by reason. */
  readonly refused: Readonly<Record<GuardReason, number>>;
}

/**
 * A middleware to put first: before CORS, authorisation, and anything that takes a permit, since a page that
 * cannot read an answer could still use up connections.
 *
 * Requests of the server's own origin and those of programs that are no browser pass. A refusal is one JSON
 * object, `{ "error": reason, "message" }`.
 *
 * The trap: without `hosts`, a server that is reached over a network address answers to any name.
 *
 * @throws {TypeError} when a listed host or origin is not one, saying what to write.
 * @see https://www.w3.org/TR/fetch-metadata/
 */
export function guard<Req extends GuardRequest = GuardRequest>(options: GuardOptions<Req> = {}): Guard<Req> {
  const { hosts, origins = [], navigation = false, onRefuse } = options;
  const hostAllowed = typeof hosts === 'function' ? hosts : listedHost(hosts);
  const mayNavigate = typeof navigation === 'function' ? navigation : () => navigation;
  const originAllowed = typeof origins === 'function' ? origins : listedOrigin(origins);
  const refused: Record<GuardReason, number> = {
    'host-missing': 0,
    'host-repeated': 0,
    'host-malformed': 0,
    'host-not-listed': 0,
    'origin-not-listed': 0,
    'cross-site': 0,
  };

  const judge = (req: Req): GuardReason | undefined => {
    const host = readHost(req);
    if ('fault' in host) {
      // HTTP/1.0 knows no Host; without a list there is nothing to hold it against.
      const excused =
        host.fault === 'host-missing' && isHttp10(req) && hosts === undefined && !overLoopback(req);
      return excused ? judgeOrigin(req, '') : host.fault;
    }
    if (!hostAllowed(host.value, req)) return 'host-not-listed';
    return judgeOrigin(req, host.value);
  };

  const judgeOrigin = (req: Req, host: string): GuardReason | undefined => {
    const origin = header(req, 'origin');
    const site = header(req, 'sec-fetch-site');
    // Pages cannot set this header, so the browser vouches; its Origin may be `null` by a referrer policy.
    if (site === 'same-origin') return undefined;
    if (origin !== undefined && origin !== 'null' && originAllowed(origin, req)) return undefined;
    if (site === 'cross-site') {
      if (isNavigation(req) && mayNavigate(req)) return undefined;
      return origin === undefined ? 'cross-site' : 'origin-not-listed';
    }
    return origin === undefined || isOwn(origin, host) ? undefined : 'origin-not-listed';
  };

  const middleware = (req: Req, res: GuardResponse, next: () => unknown): unknown => {
    const reason = judge(req);
    if (reason === undefined) return next();
    refused[reason]++;
    const { status, message } = ANSWERS[reason];
    answer(res, status, { error: reason, message });
    onRefuse?.({ reason, status, req });
  };
  return Object.assign(middleware, { refused });
}

const ANSWERS: Readonly<Record<GuardReason, { status: number; message: string }>> = {
  'host-missing': { status: 400, message: 'The request needs a Host header.' },
  'host-repeated': { status: 400, message: 'The request has more than one Host header.' },
  'host-malformed': { status: 400, message: 'The Host header is not a host name with an optional port.' },
  'host-not-listed': { status: 421, message: 'This server does not answer to that host name.' },
  'origin-not-listed': { status: 403, message: 'Pages of that origin may not call this server.' },
  'cross-site': { status: 403, message: 'Pages of other sites may not call this server.' },
};

function answer(res: GuardResponse, status: number, body: { error: string; message: string }): void {
  const text = JSON.stringify(body);
  res.writeHead(status, {
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(text)),
    'cache-control': 'no-store',
  });
  res.end(text);
}

// A name, an IPv4 address or an IPv6 address in brackets, and a port.
const HOST = /^([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?$/;

type HostResult = { readonly value: string } | { readonly fault: GuardReason };

/** The one host a request names, in lower case. Node itself lets a second Host header through. */
function readHost(req: GuardRequest): HostResult {
  const { rawHeaders } = req;
  const named: string[] = [];
  let authority: string | undefined;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!;
    if (name === ':authority') authority = rawHeaders[at + 1]!.toLowerCase();
    else if (name.length === 4 && name.toLowerCase() === 'host')
      named.push(rawHeaders[at + 1]!.toLowerCase());
  }
  if (named.length > 1) return { fault: 'host-repeated' };
  const value = authority ?? named[0];
  if (value === undefined) return { fault: 'host-missing' };
  // HTTP/2 may carry both, but then they must agree.
  if (named.length === 1 && named[0] !== value) return { fault: 'host-repeated' };
  return HOST.test(value) ? { value } : { fault: 'host-malformed' };
}

const LOOPBACK_HOSTS: readonly string[] = ['localhost', '127.0.0.1', '[::1]'];

function listedHost(hosts: readonly string[] | undefined): (host: string, req: GuardRequest) => boolean {
  if (hosts === undefined) {
    const local = listedHost(LOOPBACK_HOSTS);
    return (host, req) => !overLoopback(req) || local(host, req);
  }
  const listed = new Set(hosts.map(checkHost));
  return (host) => listed.has(host) || listed.has(host.replace(/:\d+$/, ''));
}

function checkHost(host: string): string {
  const lower = String(host).toLowerCase();
  if (HOST.test(lower)) return lower;
  throw new TypeError(
    `\`hosts\` must hold names such as example.com, [::1] or example.com:8443, got ${show(host)}`,
  );
}

function overLoopback(req: GuardRequest): boolean {
  const address = req.socket.localAddress;
  return address !== undefined && /^(::ffff:)?127\.|^::1$/.test(address);
}

function isHttp10(req: GuardRequest): boolean {
  return req.httpVersionMajor === 1 && req.httpVersionMinor === 0;
}

function header(req: GuardRequest, name: string): string | undefined {
  const value = req.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}

function isNavigation(req: GuardRequest): boolean {
  const reads = req.method === 'GET' || req.method === 'HEAD';
  return (
    reads && header(req, 'sec-fetch-mode') === 'navigate' && header(req, 'sec-fetch-dest') === 'document'
  );
}

/** Whether an origin is the host's own. By which scheme is not known here: a proxy may have taken the TLS off. */
function isOwn(origin: string, host: string): boolean {
  const match = /^(https?):\/\/(.+)$/.exec(origin);
  if (match === null) return false;
  const port = match[1] === 'https' ? /:443$/ : /:80$/;
  return match[2]!.toLowerCase() === host.replace(port, '');
}

function listedOrigin(origins: readonly string[]): (origin: string) => boolean {
  const listed = new Set(origins.map(checkOrigin));
  return (origin) => listed.has(origin);
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
