// Judges whether pages of an origin may read a stream (CORS).
// Needs `../failure.ts`, `doctor-finding.ts` and `doctor-probe.ts` beside it.

import { shown } from '../failure.ts';
import {
  type Cors,
  type CorsHop,
  type Evidence,
  type Finding,
  isRedirect,
  ok,
  problem,
  unknown,
} from './doctor-finding.ts';
import type { Head } from './doctor-probe.ts';

export function corsOf({ cors, main }: Evidence): Finding[] {
  if (cors === undefined) return [];
  const { origin, credentials, asked, hops } = cors;
  const last = hops.at(-1)?.answer;
  if (last === undefined) return [unknown('cors', 'cors', `no answer to a request from ${origin}`)];
  const { status } = last;
  // What is refused without `Origin` as well, or for now, says nothing of the page.
  if (status !== 200 && (isPassing(status) || status === main.head?.status || isRedirect(last))) {
    return [unknown('cors', 'cors', `a request from ${origin} was answered ${status}`)];
  }
  const fault = first(hops, (hop) => faultOf(hop, credentials)) ?? otherStatus(status);
  const seen = fault ?? (asked.length === 0 ? undefined : first(hops, (hop) => preflightFault(hop, cors)));
  const names = asked.join(', ');
  if (seen === undefined) {
    return [ok('cors', `pages of ${origin} may read${asked.length === 0 ? '' : `, and send ${names}`}`)];
  }
  const withCredentials = credentials ? ' and `Access-Control-Allow-Credentials: true`' : '';
  const withHeaders = asked.length > 0 ? `, and \`Access-Control-Allow-Headers: ${names}\` for OPTIONS` : '';
  return [
    problem('cors', fault === undefined ? 'cors-preflight' : 'cors', {
      seen,
      cause: `a browser gives pages of ${origin} nothing of the stream`,
      cure: `\`Access-Control-Allow-Origin: ${origin}\`${withCredentials}${withHeaders}; sluice: --cors ${origin}, or \`cors({ origins })\``,
    }),
  ];
}

function isPassing(status: number): boolean {
  return status >= 500 || [408, 425, 429].includes(status);
}

function otherStatus(status: number): string | undefined {
  return status === 200 ? undefined : `with this Origin the server answers ${status}`;
}

/** The first fault on the way, with the place where that is not the URL itself. */
function first(hops: readonly CorsHop[], judge: (hop: CorsHop) => string | undefined): string | undefined {
  for (const [i, hop] of hops.entries()) {
    // A page may read what comes from its own origin.
    const fault = hop.origin === hop.url.origin ? undefined : judge(hop);
    if (fault !== undefined) return i === 0 ? fault : `after a redirect to ${hop.url.origin}: ${fault}`;
  }
  return undefined;
}

function faultOf({ answer, origin }: CorsHop, credentials: boolean): string | undefined {
  return answer === undefined ? undefined : headFault(answer, origin, credentials);
}

function headFault({ status, headers }: Head, origin: string, credentials: boolean): string | undefined {
  const allowed = headers['access-control-allow-origin'];
  const answered = status === 200 ? '' : `${status}, and `;
  if (allowed === undefined) return `${answered}no Access-Control-Allow-Origin for ${origin}`;
  if (allowed !== origin && (allowed !== '*' || credentials)) {
    return `Access-Control-Allow-Origin: ${shown(allowed)}`;
  }
  const isAllowed = headers['access-control-allow-credentials'] === 'true';
  return credentials && !isAllowed ? 'no Access-Control-Allow-Credentials: true' : undefined;
}

function preflightFault({ preflight, origin }: CorsHop, { asked, credentials }: Cors): string | undefined {
  if (preflight === undefined) return 'no answer to the preflight (OPTIONS)';
  const { status, headers } = preflight;
  if (status < 200 || status > 299) return `the preflight (OPTIONS) was answered ${status}`;
  const fault = headFault({ ...preflight, status: 200 }, origin, credentials);
  if (fault !== undefined) return `the preflight (OPTIONS) has ${fault}`;
  const list = (headers['access-control-allow-headers'] ?? '').toLowerCase().split(/\s*,\s*/);
  // `Authorization` must be named, and with credentials the star is a plain name.
  const allowsAll = list.includes('*') && !credentials;
  const missing = asked.filter((name) => !list.includes(name) && (!allowsAll || name === 'authorization'));
  return missing.length === 0 ? undefined : `the preflight (OPTIONS) does not allow ${missing.join(', ')}`;
}
