// Judges what arrived on a stream and when: compression, buffering, heartbeats, and how it ended.
// Needs `../failure.ts`, `doctor-finding.ts`, `doctor-probe.ts` and `doctor-proxies.ts` beside it.

import { shown } from '../failure.ts';
import {
  counted,
  type Evidence,
  type Finding,
  ms,
  ok,
  problem,
  seconds,
  unknown,
  warning,
} from './doctor-finding.ts';
import type { Burst, Probe } from './doctor-probe.ts';
import { by, curesOf, intermediariesOf, listOf, namesOf, seenOf } from './doctor-proxies.ts';

// ── compression ───────────────────────────────────────────────────────────────────────────────────────────

/** How much later a compressed stream may begin than one that is not. */
const COMPRESSION_DELAY = 1000;

export function compressionOf(evidence: Evidence): Finding {
  const { main, plain } = evidence;
  const coding = main.head?.headers['content-encoding'];
  if (coding === undefined) return ok('compression', 'none');
  const name = `${shown(coding)}${by(main.head!.headers)}`;
  const first = main.bursts[0]?.from;
  if (plain !== undefined && isLater(main, first, plain, plain.bursts[0]?.from)) {
    const when =
      first === undefined ? `no byte within ${seconds(main.age)}` : `the first byte after ${seconds(first)}`;
    return heldByCompression(evidence, `Content-Encoding: ${name}, and ${when}`);
  }
  if (first === undefined)
    return unknown('compression', 'compression', `${name}; nothing arrived, compressed or not`);
  // Zlib holds back 16 KiB as well, also after a beginning that was flushed.
  if (heldBack(main) !== undefined) return unknown('compression', 'compression', `${name}; see buffering`);
  return ok('compression', `${name}, and what is sent arrives`);
}

/**
 * Whether one connection had got something long after another one had, by the same clock. Where it had not got
 * it at all, it must have waited for it as long.
 */
export function isLater(
  one: Probe,
  at: number | undefined,
  other: Probe,
  otherAt: number | undefined,
): boolean {
  if (otherAt === undefined) return false;
  return one.began + (at ?? one.age) > other.began + otherAt + COMPRESSION_DELAY;
}

export function heldByCompression({ main, plain }: Evidence, seen: string): Finding {
  const headers = main.head?.headers ?? plain?.head?.headers ?? {};
  const suspects = intermediariesOf(headers).filter(({ compression }) => compression !== undefined);
  const first = plain?.bursts[0]?.from;
  const whom = suspects.length > 0 ? listOf(suspects) : 'the server, or something on the way,';
  return problem('compression', 'compression-buffers', {
    seen: `${seen}; uncompressed, ${first === undefined ? 'the head' : 'the first byte'} after ${seconds(first ?? plain?.head?.at ?? 0)}`,
    cause: `${whom} compresses the stream, and waits until there is more to compress`,
    cure:
      suspects.length > 0
        ? curesOf(suspects, 'compression')
        : 'no compression of text/event-stream, or a flush after each event',
  });
}

// ── bursts ────────────────────────────────────────────────────────────────────────────────────────────────

const SLOW_HEAD = 3000;

export function timingOf(main: Probe): Finding {
  const { at } = main.head!;
  const first = main.bursts[0]?.from;
  const seen = `the head after ${ms(at)}, the first byte ${first === undefined ? 'not yet' : `after ${ms(first)}`}`;
  if (at <= SLOW_HEAD) return ok('timing', seen);
  return warning('timing', 'slow-head', {
    seen,
    cause: 'the server sends the head late, or a proxy holds it back until a buffer is full',
    cure: 'send the head at once (`res.flushHeaders()`), and see `buffering`',
  });
}

/** A pause after which what has arrived is taken for all that was sent. */
const LONG_PAUSE = 200;
/** Buffers of proxies and compressors are larger. */
const SMALL = 1024;
/** A burst of fewer events is no sign. */
const MANY = 3;
/** A stream without pauses is judged by so many pieces. */
const MANY_PIECES = 20;

export function bufferingOf({ main, plain }: Evidence): Finding {
  const held = heldBack(main);
  if (held !== undefined) return bufferedBy(main, held);
  if (main.bursts.length === 0) return silent(main, plain);
  const small = main.bursts.filter(({ bytes, isTorn }) => bytes < SMALL && !isTorn);
  // No buffer lets a part of itself go while the stream goes on, and one that waits for a time has several.
  const alone = small.find(({ events, beats }) => events + beats === 1);
  if (alone !== undefined) return passing(alone);
  const bursts = settled(main);
  const typical = median(bursts.map(({ events, beats }) => events + beats));
  if (bursts.length >= MANY && typical >= MANY) {
    return warning('buffering', 'bursts', {
      seen: `${bursts.length} bursts of about ${typical} events`,
      cause:
        'the server sends in batches, or something on the way holds events back: without the server’s own times both look the same',
      cure: 'compare with a connection that goes straight to the server',
    });
  }
  if (main.pieces.length >= MANY_PIECES && median(main.pieces) < MANY) {
    const each = counted(median(main.pieces), 'event');
    return ok(
      'buffering',
      `${main.pieces.length} pieces of about ${each} each: nothing waits for a buffer to fill`,
    );
  }
  const few = small.find(({ events, beats }) => events + beats < MANY);
  if (few !== undefined) return passing(few);
  const seen = `${counted(main.bursts.length, 'burst')}, ${main.bytes} bytes: too little to tell`;
  return unknown(
    'buffering',
    'buffering',
    seen,
    'run it for longer (--wait 60s), or publish single small events',
  );
}

function passing({ bytes }: Burst): Finding {
  return ok('buffering', `a piece of ${bytes} bytes arrived by itself: nothing waits for a buffer to fill`);
}

function silent(main: Probe, plain: Probe | undefined): Finding {
  if (plain !== undefined && plain.bursts.length > 0)
    return unknown('buffering', 'buffering', 'see compression');
  const names = namesOf(main.head!.headers);
  const through = names === '' ? '' : ` (${names} is on the way)`;
  const seen = `no byte in ${seconds(main.age)}, so it cannot be told whether events are held back${through}`;
  return unknown('buffering', 'quiet', seen, 'publish some events while it runs');
}

/** Bursts after which nothing came for a while. */
function settled(main: Probe): Burst[] {
  const { bursts, age } = main;
  return bursts.filter(({ to }, i) => {
    const next = bursts[i + 1]?.from ?? age;
    return next - to >= LONG_PAUSE + 2 * main.lagWithin(to, next);
  });
}

/** What shows that events were held back; `undefined` where nothing shows it. */
function heldBack(main: Probe): string | undefined {
  const bursts = settled(main);
  // A server writes whole events. What ends within a line, and goes on later, was cut by the size of a buffer.
  const torn = bursts.filter(({ isTorn, bytes }) => isTorn && bytes >= SMALL);
  if (torn.length >= 2) {
    const size = median(torn.map(({ bytes }) => bytes));
    return `${torn.length} times about ${size} bytes arrived at once, cut within a line, and the rest of the line came later`;
  }
  // Heartbeats are sent one at a time. The first burst may have comments that only open the stream.
  const clumps = bursts.filter(({ beats, events }, i) => i > 0 && beats >= 2 && events === 0);
  if (clumps.length >= 2) {
    return `${clumps.length} times heartbeats arrived together, up to ${Math.max(...clumps.map(({ beats }) => beats))} at once`;
  }
  const { heartbeat } = main.ready ?? {};
  if (heartbeat === undefined || main.endedAt !== undefined) return undefined;
  const { longestSilence, lag } = main;
  if (longestSilence <= 2 * (heartbeat.interval + lag) + 1000) return undefined;
  return `the server promises a heartbeat every ${seconds(heartbeat.interval)}, and nothing arrived for ${seconds(longestSilence)}`;
}

function bufferedBy({ head }: Probe, seen: string): Finding {
  const { headers } = head!;
  const holders = intermediariesOf(headers).filter(({ buffering }) => buffering !== undefined);
  const isNamed = holders.length > 0;
  const coding = headers['content-encoding'];
  const cause = isNamed
    ? `${listOf(holders)} (${seenOf(holders)}) holds events back until a buffer is full`
    : 'something on the way holds events back; it names itself in no header';
  const cure = isNamed
    ? curesOf(holders, 'buffering')
    : 'switch off the buffering of responses for this path; ask it of proxies with `X-Accel-Buffering: no`';
  if (coding === undefined) return problem('buffering', 'buffered', { seen, cause, cure });
  return problem('buffering', 'buffered', {
    seen,
    cause: `${cause}; or the compression (${shown(coding)}) waits until there is more to compress`,
    cure: `${cure}; and no compression of text/event-stream, or a flush after each event`,
  });
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

// ── silence, and the end ──────────────────────────────────────────────────────────────────────────────────

/** Proxies often end a silence of 30 to 60 s. */
const LONG_SILENCE = 30_000;

export function heartbeatOf({ main }: Evidence): Finding {
  const { heartbeat } = main.ready ?? {};
  const longest = `the longest silence was ${seconds(main.longestSilence)}`;
  if (main.longestSilence >= LONG_SILENCE) {
    return warning('heartbeat', 'no-heartbeat', {
      seen: `nothing arrived for ${seconds(main.longestSilence)}`,
      cause:
        'many proxies and networks drop a connection that is silent for 30 to 60 s, and a reader may not notice',
      cure: 'send a comment (`:` and a blank line) every 15 s',
    });
  }
  if (heartbeat !== undefined)
    return ok('heartbeat', `promised every ${seconds(heartbeat.interval)}; ${longest}`);
  if (main.beats > 0) return ok('heartbeat', `${counted(main.beats, 'comment')}; ${longest}`);
  if (main.events > 0 && main.longestSilence < main.age / 3)
    return ok('heartbeat', `events keep the stream alive; ${longest}`);
  const cure = '--wait 65s shows whether there is one, and whether silence is cut';
  return unknown('heartbeat', 'heartbeat', `none in ${seconds(main.age)}`, cure);
}

/** A silence that is shorter is not the reason of an end. */
const SHORTEST_CUT = 1000;

export function endingOf({ main }: Evidence): Finding {
  const { endedAt, failure, sourceError } = main;
  if (sourceError !== undefined) {
    return problem('ending', 'source-failed', {
      seen: `the stream says that it has failed: ${shown(sourceError)}`,
      cause: 'what the server reads for this stream has failed, not the connection',
      cure: 'look at the log of the server',
    });
  }
  if (endedAt === undefined) {
    const full = main.isFull ? '; left early, because more arrived than is kept' : '';
    return ok(
      'ending',
      `open after ${seconds(main.age)}, of which up to ${seconds(main.longestSilence)} in silence${full}`,
    );
  }
  if (main.isOver) return ok('ending', `the server ended the stream after ${seconds(endedAt)}, and said so`);
  const silence = endedAt - (main.bursts.at(-1)?.to ?? main.head!.at);
  // One that was shorter than another one before, which the connection outlived, is not the reason either.
  if (!isMeant(main) && silence >= SHORTEST_CUT && silence >= 0.9 * main.longestSilence)
    return cutBySilence(main, silence);
  const lifetime = lifetimeOf(main);
  if (failure !== undefined && failure !== 'over') {
    return problem('ending', 'broken', {
      seen: `the connection broke after ${seconds(endedAt)}: ${shown(failure.message)}`,
      cause: 'the server has failed, or something on the way limits how long a response may take',
      cure: `look at the log of the server; ${lifetime}`,
    });
  }
  return warning('ending', 'ended', {
    seen: `the stream ended after ${seconds(endedAt)}`,
    cause:
      'the server ended it, and a browser’s EventSource comes back for more; or something on the way limits how long a response may take',
    cure: `if nothing follows, answer the next request 204; if it should go on, ${lifetime}`,
  });
}

/** Whether the server itself must have ended the response: by its framing, with no proxy that may do so. */
function isMeant({ failure, head }: Probe): boolean {
  const { httpVersion, headers } = head!;
  const isFramed = /chunked/i.test(headers['transfer-encoding'] ?? '') || httpVersion.startsWith('2');
  // Caddy ends the response properly where the server was silent for too long.
  const mayBeCut = intermediariesOf(headers).some(({ idle }) => idle !== undefined);
  return failure === undefined && isFramed && !mayBeCut;
}

function lifetimeOf({ head }: Probe): string {
  const limits = intermediariesOf(head!.headers).filter(({ lifetime }) => lifetime !== undefined);
  return limits.length > 0
    ? curesOf(limits, 'lifetime')
    : 'set no limit on how long a whole response may take, at any proxy or platform on the way';
}

function cutBySilence(main: Probe, silence: number): Finding {
  const cutters = intermediariesOf(main.head!.headers).filter(({ idle }) => idle !== undefined);
  const isNamed = cutters.length > 0;
  const whom = isNamed
    ? `${listOf(cutters)} (${seenOf(cutters)}) most likely`
    : 'something on the way, or the server,';
  const timeout = isNamed
    ? curesOf(cutters, 'idle')
    : 'a longer timeout there, above the interval of the heartbeat';
  return problem('ending', 'cut-when-silent', {
    seen: `cut after ${seconds(silence)} of silence, ${seconds(main.age)} after the request`,
    cause: `${whom} ends a connection that is silent for so long; HAProxy (\`timeout client\`, \`timeout server\`) and most load balancers name themselves in no header`,
    cure: `a heartbeat more often than every ${seconds(silence)}; or ${timeout}`,
  });
}
