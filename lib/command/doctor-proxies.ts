// Tells from the headers of a response what it came through, and what to set there.
// Needs `../failure.ts` and `../transport.ts` beside it.

import { shown } from '../failure.ts';
import type { ResponseHeaders } from '../transport.ts';

/** What can stand between a server and its readers, with the cures that it needs. */
export interface Intermediary {
  readonly name: string;
  /** The header that names it. */
  readonly seen: string;
  /** What makes it pass every event on at once. */
  readonly buffering?: string | undefined;
  /** What keeps it from compressing event streams. */
  readonly compression?: string | undefined;
  /** What lets silence last longer. */
  readonly idle?: string | undefined;
  /** What lets a whole response last longer. */
  readonly lifetime?: string | undefined;
}

interface Known extends Omit<Intermediary, 'seen'> {
  /** Headers and what their values have in them. */
  readonly signs: readonly (readonly [header: string, value: RegExp])[];
}

const KNOWN: readonly Known[] = [
  {
    name: 'nginx',
    signs: [['server', /^(nginx|openresty|tengine)\b/i]],
    buffering:
      '`proxy_buffering off;` in the location of the stream, or `X-Accel-Buffering: no` from the server, which `proxy_ignore_headers` must not name (docs/proxies/nginx.conf)',
    compression: '`gzip off;` in the location of the stream (docs/proxies/nginx.conf)',
    idle: '`proxy_read_timeout` of nginx, 60 s by default, above the interval of the heartbeat (docs/proxies/nginx.conf)',
  },
  {
    name: 'Caddy',
    signs: [
      ['server', /^Caddy\b/i],
      ['via', /\bCaddy\b/i],
    ],
    buffering: 'no `response_buffers` in its `reverse_proxy` (docs/proxies/Caddyfile)',
    compression: 'an `encode` whose `match` leaves text/event-stream out',
    idle: '`read_timeout` in the `transport http` of Caddy above the interval of the heartbeat (docs/proxies/Caddyfile)',
    lifetime: 'no `timeouts { write … }` in Caddy',
  },
  {
    name: 'Apache',
    signs: [['server', /^Apache\b/i]],
    buffering:
      'no filter such as `mod_deflate` for the path of the stream, and `flushpackets=on` in a `ProxyPass` to FastCGI or AJP',
    compression: '`SetEnvIf Request_URI ^/events no-gzip` for the path of the stream',
    idle: '`ProxyTimeout` above the interval of the heartbeat',
  },
  {
    name: 'Varnish',
    signs: [
      ['x-varnish', /./],
      ['via', /\bvarnish\b/i],
    ],
    buffering: '`return (pipe)` in `vcl_recv` for the path of the stream',
    compression: '`set beresp.do_gzip = false;` for the stream',
    idle: '`between_bytes_timeout`, or `pipe_timeout`, above the interval of the heartbeat',
  },
  {
    name: 'Envoy',
    signs: [
      ['server', /^(envoy|istio-envoy)\b/i],
      ['x-envoy-upstream-service-time', /./],
    ],
    buffering: 'no buffer filter on the route of the stream',
    compression: 'no compressor filter on the route of the stream',
    idle: '`stream_idle_timeout` and `idle_timeout` of the route above the interval of the heartbeat',
    lifetime: '`timeout: 0s` on the route of the stream; by default a whole response may take 15 s',
  },
  {
    name: 'Cloudflare',
    signs: [['cf-ray', /./]],
    buffering: '`Cache-Control: no-store, no-transform` and the type text/event-stream from the server',
    compression: '`Cache-Control: no-transform` from the server',
    idle: 'a heartbeat that is more frequent than every 100 s',
  },
  {
    name: 'CloudFront',
    signs: [
      ['x-amz-cf-id', /./],
      ['via', /\bCloudFront\b/i],
    ],
    compression: 'no automatic compression in the behaviour of the path',
    idle: 'the response timeout of the origin above the interval of the heartbeat',
  },
  {
    name: 'Heroku',
    signs: [
      ['via', /\b(vegur|heroku-router)\b/i],
      ['server', /^heroku\b/i],
    ],
    idle: 'a heartbeat that is more frequent than every 55 s',
  },
  {
    name: 'Google Cloud',
    signs: [['via', /\b1\.1 google\b/i]],
    lifetime: 'the timeout of the backend service above the life of a stream',
  },
  { name: 'Squid', signs: [['via', /\bsquid\b/i]] },
  {
    name: 'Express',
    signs: [['x-powered-by', /^Express\b/i]],
    compression:
      'the middleware `compression` with a `filter` that returns false for the stream, or `res.flush()` after each event, or `Cache-Control: no-transform`',
  },
];

/** What the headers name; in which order a response has passed them is not known. */
export function intermediariesOf(headers: ResponseHeaders): Intermediary[] {
  return KNOWN.flatMap(({ signs, ...known }) => {
    const sign = signs.find(([name, value]) => value.test(headers[name] ?? ''));
    return sign === undefined ? [] : [{ ...known, seen: `${sign[0]}: ${headers[sign[0]]}` }];
  });
}

/** Their names. */
export function namesOf(headers: ResponseHeaders): string {
  return listOf(intermediariesOf(headers));
}

/** The headers that name them, as something to add to a sentence; `''` where there are none. */
export function by(headers: ResponseHeaders): string {
  const proxies = intermediariesOf(headers);
  return proxies.length === 0 ? '' : ` (${seenOf(proxies)})`;
}

export function listOf(proxies: readonly Intermediary[]): string {
  return proxies.map(({ name }) => name).join(', ');
}

export function seenOf(proxies: readonly Intermediary[]): string {
  return shown(proxies.map(({ seen }) => seen).join(', '));
}

/** What to set at each of them. */
export function curesOf(
  proxies: readonly Intermediary[],
  kind: 'buffering' | 'compression' | 'idle' | 'lifetime',
): string {
  return proxies.flatMap((proxy) => proxy[kind] ?? []).join('; ');
}
