// Refuses requests for other host names (DNS rebinding) and requests of other sites' pages.
// Needs `address.ts`, `origin.ts`, `problem.ts` and `target.ts` beside it.

import { isLoopback } from './address.ts';
import { type Origins, onlyTrue, originRule } from './origin.ts';
import { sendProblem } from './problem.ts';
import { splitTarget } from './target.ts';

/** The members of a request that are used: those of HTTP/1 and HTTP/2 alike. */
export interface GuardRequest {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
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
 * - `host-not-listed` (421): this server does not answer to the name. This check stops DNS rebinding.
 * - `origin-not-listed` (403): a page of another origin sent the request.
 * - `cross-site` (403): a page of another site sent the request without an Origin, as an image does.
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
   * The hosts to answer to: `example.com` on any port, `example.com:8443` on that port; or a function of the
   * lower-case Host header that returns `true`. By default `localhost`, `127.0.0.1` and `[::1]` for
   * connections over loopback, and any host for others. Behind a proxy on the same machine, list the public
   * name.
   */
  hosts?: readonly string[] | ((host: string, req: Req) => boolean) | undefined;
  /**
   * Other origins whose pages may send requests; give `cors` the same. The server's own origin need not be
   * listed.
   */
  origins?: Origins<Req> | undefined;
  /**
   * Whether links on other sites may open a page here (a top-level GET), or a function that decides for each
   * request. Default false, which is right for streams.
   */
  navigation?: boolean | ((req: Req) => boolean) | undefined;
  /** Called after each refusal. */
  onRefuse?: ((refusal: GuardRefusal<Req>) => void) | undefined;
}

export interface Guard<Req extends GuardRequest = GuardRequest> {
  (req: Req, res: GuardResponse, next: () => unknown): unknown;
  /** How many requests were refused, by reason. */
  readonly refused: Readonly<Record<GuardReason, number>>;
}

/**
 * Makes a middleware to put before authorization and limits, because a page that cannot read an answer could
 * still use up connections. Put `cors` before it: its refusals then have the headers with which a page of a
 * listed origin can read them.
 *
 * Requests of the server's own pages pass, and so do those of programs other than browsers. A refusal is one
 * JSON object, `{ "error": reason, "message" }`. A function in the options allows only by returning `true`.
 *
 * The trap: without `hosts`, a server that is reached over a network address answers to any name.
 *
 * @throws {TypeError} for a listed host or origin that could never match, naming the form to write. The
 *   middleware throws one when a function in the options returns a promise.
 * @see https://www.w3.org/TR/fetch-metadata/
 */
export function guard<Req extends GuardRequest = GuardRequest>(options: GuardOptions<Req> = {}): Guard<Req> {
  const { hosts, origins = [], navigation = false, onRefuse } = options;
  const isHostAllowed = typeof hosts === 'function' ? onlyTrue('hosts', hosts) : listedHost(hosts);
  const isOriginAllowed = originRule<Req>(origins);
  const mayNavigate =
    typeof navigation === 'function' ? onlyTrue('navigation', navigation) : () => navigation;
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
      // HTTP/1.0 has no Host header. Where any host is allowed, none is needed.
      const excused =
        host.fault === 'host-missing' &&
        isHttp10(req) &&
        hosts === undefined &&
        !isLoopback(req.socket.localAddress);
      return excused ? judgeOrigin(req, '') : host.fault;
    }
    if (!isHostAllowed(host.value, req)) return 'host-not-listed';
    return judgeOrigin(req, host.value);
  };

  const judgeOrigin = (req: Req, host: string): GuardReason | undefined => {
    const origin = header(req, 'origin');
    const site = header(req, 'sec-fetch-site');
    // Set by the browser, never by a page. The Origin of such a request is `null` under some referrer
    // policies.
    if (site === 'same-origin') return undefined;
    if (isOriginAllowed(origin, req)) return undefined;
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
    sendProblem(res, { status, error: reason, message });
    onRefuse?.({ reason, status, req });
    return undefined;
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

// A name, an IPv4 address or an IPv6 address in brackets, and a port.
const HOST = /^([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?$/;

type HostResult = { readonly value: string } | { readonly fault: GuardReason };

/** The host that a request names, in lower case. Node itself accepts a second Host header. */
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
  // The authority of an absolute-form target takes the place of the Host header.
  const value = splitTarget(req.url)?.authority ?? authority ?? named[0];
  if (value === undefined) return { fault: 'host-missing' };
  // HTTP/2 allows both, with the same value.
  if (authority !== undefined && named.length === 1 && named[0] !== value) return { fault: 'host-repeated' };
  return HOST.test(value) ? { value } : { fault: 'host-malformed' };
}

const LOOPBACK_HOSTS: readonly string[] = ['localhost', '127.0.0.1', '[::1]'];

function listedHost(hosts: readonly string[] | undefined): (host: string, req: GuardRequest) => boolean {
  if (hosts === undefined) {
    const local = listedHost(LOOPBACK_HOSTS);
    // First what costs nothing: a socket keeps the address that it is asked for, in about 150 bytes.
    return (host, req) => local(host, req) || !isLoopback(req.socket.localAddress);
  }
  if (!Array.isArray(hosts))
    throw new TypeError(`\`hosts\` must be a list or a function, got ${show(hosts)}`);
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

/**
 * Whether an origin is that of the host. Both schemes match: behind a proxy that ends TLS, ours is not known.
 */
function isOwn(origin: string, host: string): boolean {
  const match = /^(https?):\/\/(.+)$/.exec(origin);
  if (match === null) return false;
  const port = match[1] === 'https' ? /:443$/ : /:80$/;
  return match[2]!.toLowerCase() === host.replace(port, '');
}

function show(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}
