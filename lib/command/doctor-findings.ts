// Judges what `sluice doctor` has seen: the answer and its headers here, the rest in the files beside it.
// Needs `../failure.ts`, `../transport.ts`, `doctor-cors.ts`, `doctor-finding.ts`, `doctor-flow.ts`, `doctor-probe.ts`,
// `doctor-proxies.ts`, `doctor-reach.ts` and `doctor-resume.ts` beside it.

import { type ConnectError, isTransient, shown } from '../failure.ts';
import type { ResponseHeaders } from '../transport.ts';
import { corsOf } from './doctor-cors.ts';
import {
  counted,
  type Evidence,
  type Finding,
  GIVES_UP,
  ms,
  ok,
  problem,
  seconds,
  unknown,
  warning,
} from './doctor-finding.ts';
import {
  bufferingOf,
  compressionOf,
  endingOf,
  heartbeatOf,
  heldByCompression,
  isLater,
  timingOf,
} from './doctor-flow.ts';
import type { Head, Probe } from './doctor-probe.ts';
import { by, curesOf, intermediariesOf, listOf, namesOf, seenOf } from './doctor-proxies.ts';
import { notConnected, unreachable } from './doctor-reach.ts';
import { resumeOf } from './doctor-resume.ts';

/** All findings, in the order in which a response arrives. */
export function diagnose(evidence: Evidence): Finding[] {
  const { main } = evidence;
  const answer = answerOf(evidence);
  if (answer.state === 'problem' || main.head === undefined) {
    return [answer, ...versionOf(evidence), ...corsOf(evidence)];
  }
  return [
    answer,
    ...versionOf(evidence),
    ...lengthOf(evidence),
    cachingOf(main.head.headers),
    compressionOf(evidence),
    timingOf(main),
    bufferingOf(evidence),
    heartbeatOf(evidence),
    endingOf(evidence),
    resumeOf(evidence),
    ...corsOf(evidence),
  ];
}

/** One sentence for all findings. */
export function summaryOf(findings: readonly Finding[]): string {
  const [problems, warnings, unknown] = (['problem', 'warning', 'unknown'] as const).map((state) =>
    findings.filter((finding) => finding.state === state),
  );
  const counts = [
    ...(problems!.length > 0 ? [`${counted(problems!.length, 'problem')}: ${codesOf(problems!)}`] : []),
    ...(warnings!.length > 0 ? [`${counted(warnings!.length, 'warning')}: ${codesOf(warnings!)}`] : []),
    ...(problems!.length === 0 ? ['nothing wrong'] : []),
  ];
  return unknown!.length === 0 ? counts.join('; ') : `${counts.join('; ')}; not known: ${codesOf(unknown!)}`;
}

function codesOf(findings: readonly Finding[]): string {
  return findings.map(({ code }) => code).join(', ');
}

// ── the answer ────────────────────────────────────────────────────────────────────────────────

function answerOf(evidence: Evidence): Finding {
  const { main } = evidence;
  const { failure, head, refused } = main;
  if (refused !== undefined) {
    const isAway = refused.error === 'server-away';
    const who = isAway ? 'the proxy does not reach the server' : 'the server sends no stream now';
    return problem('answer', 'refused', {
      seen: `the stream was refused: ${shown(refused.message || refused.error)}`,
      cause: `${who} (${shown(refused.error)}); it says so in a stream, so a browser’s EventSource comes back by itself`,
      cure: isAway
        ? 'start the server, or correct its address in the proxy'
        : 'raise the limit that the reason names, or try again later',
    });
  }
  if (failure !== undefined && failure !== 'over' && CANNOT_READ.has(failure.code))
    return unreadable(failure);
  if (head === undefined) return withoutHead(evidence);
  if (failure === 'over') {
    return problem('answer', 'no-content', {
      seen: 'the server answered 204',
      cause: 'the stream is over for good; EventSource does not come back after a 204',
      cure: 'answer 204 only where nothing will ever follow; else 200 with text/event-stream',
    });
  }
  if (failure?.code === 'ERR_SSE_STATUS') return refusedBy(failure);
  if (failure?.code === 'ERR_SSE_CONTENT_TYPE') return otherType(failure);
  if (failure?.code === 'ERR_SSE_REDIRECT') {
    return problem('answer', 'redirect', {
      seen: failure.message,
      cause: 'redirects to another origin are not followed with headers of yours, nor more than ten',
      cure: 'give the final URL, here and to readers',
    });
  }
  if (main.tooLarge > 0) return tooLarge(`${main.tooLarge} events were larger than 1 MiB + 64 KiB`);
  return otherStatus(head) ?? withoutEvents(main) ?? otherCharset(head) ?? ok('answer', answered(head));
}

function answered({ status, headers }: Head): string {
  return `${status} ${shown(headers['content-type'] ?? '')}`;
}

/** Other readers, such as `connect` of sluice, take any 2xx. */
function otherStatus(head: Head): Finding | undefined {
  if (head.status === 200) return undefined;
  return problem('answer', 'status', {
    seen: answered(head),
    cause: `EventSource reads no stream whose status is not 200; ${GIVES_UP}`,
    cure: 'answer 200',
  });
}

/** A line that is no field is ignored, and so is a block without `data`: nothing else shows such a fault. */
function withoutEvents({ hasDispatched, bytes, beginning, bursts, age }: Probe): Finding | undefined {
  const isOfLines = beginning.trim() !== '';
  if (hasDispatched || !isOfLines || age - bursts[0]!.from < FIRST_EVENT_TIME) return undefined;
  return problem('answer', 'no-events', {
    seen: `${counted(bytes, 'byte')} and no event; it begins with ${shown(beginning.slice(0, 80))}`,
    cause:
      'a reader gets nothing of lines that are no fields, of a block without `data`, or before a blank line',
    cure: 'each event needs `data: ` lines and a blank line after them',
  });
}

/** An event may arrive in several parts. */
const FIRST_EVENT_TIME = 1000;

function otherCharset(head: Head): Finding | undefined {
  const [, charset] = /;\s*charset\s*=\s*"?([^\s;"]*)/i.exec(head.headers['content-type'] ?? '') ?? [];
  if (charset === undefined || /^utf-8$/i.test(charset)) return undefined;
  return warning('answer', 'charset', {
    seen: answered(head),
    cause: 'event streams are always UTF-8; a Chromium browser refuses a stream that names another charset',
    cure: '`Content-Type: text/event-stream`, without a charset',
  });
}

const CANNOT_READ = new Set([
  'ERR_SSE_CONTENT_ENCODING',
  'ERR_SSE_DECOMPRESSION_LIMIT',
  'ERR_SSE_LINE_TOO_LONG',
  'ERR_SSE_EVENT_TOO_LARGE',
]);

function unreadable({ code, message }: ConnectError): Finding {
  if (!/^ERR_SSE_(CONTENT|DECOMP)/.test(code)) return tooLarge(message);
  return problem('answer', 'content-encoding', {
    seen: message,
    cause: 'the compression of the response cannot be read, or is no compression of an event stream',
    cure: 'send event streams without compression, or in gzip that is flushed after each event',
  });
}

function tooLarge(seen: string): Finding {
  return problem('answer', 'too-large', {
    seen: shown(seen),
    cause: 'readers with a limit, as those of sluice, do not take such an event',
    cure: 'send a reference to large data, or split it',
  });
}

function refusedBy(failure: ConnectError): Finding {
  const { status = 0, message, headers = {} } = failure;
  const by = namesOf(headers);
  const from = by === '' ? '' : ` (${by} is on the way)`;
  if (isTransient(failure)) {
    return problem('answer', 'refusal-ends-eventsource', {
      seen: `${message}${from}`,
      cause: `the server, or a proxy that does not reach it, refuses for now; but ${GIVES_UP}, though the refusal may pass`,
      cure: 'answer a browser’s EventSource 200 with text/event-stream, a `retry` and the end (sluice: `limitConnections`, `sendRefusal`), or read with `connect` of sluice, which comes back',
    });
  }
  return problem('answer', 'status', {
    seen: `${message}${from}`,
    cause: `${CAUSES[status] ?? 'the server does not give this stream'}; ${GIVES_UP}`,
    cure: CURES[status] ?? 'give the URL, the headers and the parameters that the server expects',
  });
}

const CAUSES: Readonly<Record<number, string>> = {
  401: 'the request has no token, or one that is not known',
  403: 'the request is not allowed',
  404: 'there is no such path, or a proxy passes it to another server',
  406: 'the server does not offer text/event-stream here',
  421: 'the server does not know the name in Host',
};

const CURES: Readonly<Record<number, string>> = {
  401: '--token or --header here; a page’s EventSource sends no header, so give it a cookie or a ticket in the URL',
  403: 'check the permissions of the token, and the lists of hosts and origins',
  404: 'check the path, and the locations of the proxy',
  421: 'let the proxy pass the Host on, or list the name at the server (sluice serve --allow-host)',
};

function otherType({ message, status = 0, headers = {} }: ConnectError): Finding {
  const isPage = /^text\/html/i.test(headers['content-type'] ?? '');
  return problem('answer', 'content-type', {
    seen: `${status}, and ${message}`,
    cause: `${isPage ? 'this is a page, such as a login or a page for errors' : 'the server sends no event stream here'}; ${GIVES_UP}`,
    cure: 'answer with `Content-Type: text/event-stream`, and check that the path leads to the stream',
  });
}

/** Nothing came but, at the most, an answer to HEAD. */
function withoutHead(evidence: Evidence): Finding {
  const { main, plain, head, reach, wait } = evidence;
  const { failure } = main;
  if (main.isStopped && main.age < 0.9 * wait) {
    return unknown('answer', 'interrupted', `no head of a response within ${seconds(main.age)}`);
  }
  if (failure !== undefined && failure !== 'over' && failure.code !== 'ERR_SSE_TIMEOUT')
    return unreachable(failure);
  if (reach?.isConnected === false && head === undefined && plain?.head === undefined)
    return notConnected(main.age);
  const seen = `no head of a response within ${seconds(main.age)}`;
  if (plain !== undefined && hasStream(plain) && isLater(main, undefined, plain, plain.head?.at))
    return heldByCompression(evidence, seen);
  const proxies = head === undefined ? [] : intermediariesOf(head.headers);
  const holders = proxies.filter(({ buffering }) => buffering !== undefined);
  if (holders.length > 0) {
    return problem('answer', 'buffered', {
      seen: `${seen}, but one to HEAD after ${ms(head!.at)} (${seenOf(holders)})`,
      cause: `${listOf(holders)} most likely holds the stream back until a buffer is full; or the server behind sends no head before its first event`,
      cure: `${curesOf(holders, 'buffering')}; and send the head at once (res.flushHeaders())`,
    });
  }
  return problem('answer', 'no-head', {
    seen: head === undefined ? seen : `${seen}, but one to HEAD after ${ms(head.at)}`,
    cause:
      head === undefined
        ? 'the server sends no head before its first event, to HEAD neither, or does not answer at all; or something on the way holds the head back'
        : 'the server sends no head before its first event, or something on the way that names itself in no header holds it back',
    cure: 'send the head at once (res.flushHeaders()), and switch off the buffering of proxies for this path',
  });
}

function hasStream({ head, failure }: Probe): boolean {
  return head !== undefined && failure === undefined;
}

// ── the head ──────────────────────────────────────────────────────────────────────────────────────────────

function versionOf({ main, reach }: Evidence): Finding[] {
  const { head } = main;
  if (head === undefined) return [];
  if (head.httpVersion === '1.0') {
    return [
      problem('http-version', 'http-1.0', {
        seen: `the response is HTTP/1.0${by(head.headers)}`,
        cause:
          'an old proxy or server on the way: in HTTP/1.0 a broken connection looks like the regular end, and such proxies hold bodies back',
        cure: 'let everything on the way speak HTTP/1.1',
      }),
    ];
  }
  const version = `HTTP/${head.httpVersion}`;
  if (head.httpVersion.startsWith('2')) return [ok('http-version', 'HTTP/2 alone is offered')];
  const alpn = reach?.alpn;
  if (alpn === undefined && main.url.protocol === 'https:') {
    const seen = `${version}; it was not seen whether HTTP/2 is offered`;
    return [
      unknown('http-version', 'http-version', seen, 'without HTTPS_PROXY and HTTP_PROXY, it can be seen'),
    ];
  }
  if (alpn === undefined) {
    return [
      ok(
        'http-version',
        `${version}; a browser opens at most six of these to a host, for all its tabs together`,
      ),
    ];
  }
  if (alpn === 'h2') return [ok('http-version', `HTTP/2 is offered, and ${version}`)];
  return [
    warning('http-version', 'no-http2', {
      seen: `TLS without HTTP/2; ${version}`,
      cause: 'a browser opens at most six HTTP/1.1 connections to a host, for all its tabs together',
      cure: 'offer `h2` where TLS ends',
    }),
  ];
}

function lengthOf({ main }: Evidence): Finding[] {
  const { headers } = main.head!;
  const length = headers['content-length'];
  if (length === undefined) return [];
  return [
    problem('length', 'content-length', {
      seen: `Content-Length: ${shown(length)}${by(headers)}`,
      cause:
        'something has read the whole body before it sent the head, or the stream will be cut at that length: what comes later is never delivered on this connection',
      cure: 'stream the body instead of collecting it, without Content-Length',
    }),
  ];
}

function cachingOf(headers: ResponseHeaders): Finding {
  const control = headers['cache-control'] ?? '';
  const hit = CACHE_HEADERS.find(([name, value]) => value.test(headers[name] ?? ''));
  if (hit !== undefined) {
    const [name] = hit;
    return problem('caching', 'cached', {
      seen: `${name}: ${shown(headers[name] ?? '')}${by(headers)}`,
      cause: 'a cache answered: readers get an old stream, or that of another user',
      cure: '`Cache-Control: no-store` from the server, and no cache for this path',
    });
  }
  if (/\b(no-store|no-cache|private)\b|\bmax-age=0\b/i.test(control))
    return ok('caching', `Cache-Control: ${shown(control)}`);
  return warning('caching', 'cacheable', {
    seen: control === '' ? 'no Cache-Control' : `Cache-Control: ${shown(control)}`,
    cause: 'a cache on the way may keep the stream, and give one user’s to another',
    cure: '`Cache-Control: no-store, no-transform` from the server',
  });
}

const CACHE_HEADERS: readonly (readonly [string, RegExp])[] = [
  ['age', /^[1-9]/],
  // Squid and Akamai write `TCP_HIT`, in which an underscore is part of the word.
  ['x-cache', /(?:\b|_)hit\b/i],
  ['x-cache-status', /\bhit\b/i],
  ['cf-cache-status', /\b(hit|stale|updating)\b/i],
  ['x-proxy-cache', /\bhit\b/i],
];
