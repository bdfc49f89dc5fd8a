// Judges what a second connection got that returned with an id of the first one.
// Needs `../failure.ts`, `doctor-finding.ts` and `doctor-probe.ts` beside it.

import { isTransient, shown } from '../failure.ts';
import {
  counted,
  type Evidence,
  type Finding,
  GIVES_UP,
  ok,
  problem,
  type Resume,
  seconds,
  unknown,
  warning,
} from './doctor-finding.ts';
import type { Probe } from './doctor-probe.ts';

const PUBLISH = 'publish some events while it runs';

export function resumeOf({ main, resume, partial }: Evidence): Finding {
  if (main.firstId === undefined && main.events > 0) {
    return warning('resume', 'no-ids', {
      seen: `${counted(main.events, 'event')} without an id`,
      cause: 'a reader that reconnects loses what was sent meanwhile, and does not know it',
      cure: 'give each event an `id:`, and send what came after `Last-Event-ID`',
    });
  }
  if (resume === undefined) return unknown('resume', 'resume', 'no event with an id arrived', PUBLISH);
  return resumed(main, resume, partial);
}

function resumed(main: Probe, resume: Resume, partial: string | undefined): Finding {
  const { failure, head, refused, gap, bytes, age } = resume.probe;
  const asked = `Last-Event-ID: ${shown(resume.from)}`;
  if (failure === 'over') return ok('resume', `${asked} was answered 204: nothing is left`);
  if (failure?.code === 'ERR_SSE_STATUS' && isTransient(failure)) {
    return unknown(
      'resume',
      'resume',
      `${asked}: ${failure.message}; a second connection may be one too many`,
    );
  }
  if (failure?.status === 401 || failure?.status === 403) {
    return problem('resume', 'resume-refused', {
      seen: `${asked}: ${failure.message}, though the first request was not refused`,
      cause: `the ticket or token is taken once, or has expired, and EventSource reconnects with the same URL; ${GIVES_UP}`,
      cure: 'a cookie, or a token that lives longer; with tickets, let the page make a new EventSource with a new ticket when the old one is closed',
    });
  }
  if (failure?.code === 'ERR_SSE_STATUS' || failure?.code === 'ERR_SSE_CONTENT_TYPE') {
    return problem('resume', 'resume-refused', {
      seen: `${asked}: ${failure.message}`,
      cause: `the server does not take its own id; ${GIVES_UP} when it reconnects`,
      cure: 'answer a position that is not known with a stream that begins where it can',
    });
  }
  if (refused !== undefined) {
    return unknown('resume', 'resume', `${asked} was refused: ${shown(refused.message || refused.error)}`);
  }
  if (head === undefined || bytes === 0) {
    return unknown('resume', 'resume', `${asked}: no byte in ${seconds(age)}, so it cannot be told`);
  }
  if (gap === undefined) return compared(main, resume, asked, partial);
  return problem('resume', 'resume-gap', {
    seen: `${asked}: a gap, ${shown(gap.reason)}`,
    cause:
      gap.reason === 'unknown-epoch'
        ? 'another instance, with a history of its own, answered; or the server was restarted meanwhile'
        : 'the server no longer has what came after this id',
    cure: 'let instances share a log, or keep a client at one instance; keep a longer history',
  });
}

/** Compares what the second connection got with what the first one had got after the same id. */
function compared(
  main: Probe,
  { probe, from, missed }: Resume,
  asked: string,
  partial: string | undefined,
): Finding {
  const expected = main.ids.slice(main.ids.indexOf(from) + 1);
  const got = probe.ids;
  const [first] = got;
  // `from` is the first id of all, so nothing before it can be sent again.
  if (got.includes(from)) {
    return problem('resume', 'resume-repeats', {
      seen: `${asked}: sent again from ${shown(first ?? '')}`,
      cause: 'the server sends what the reader has already: it ignores Last-Event-ID, or includes that event',
      cure: 'send what came after `Last-Event-ID`, without that event',
    });
  }
  if (missed === 0 || partial !== undefined) {
    const why = missed === 0 ? 'nothing was missed' : `with ${partial}, a stream does not get all events`;
    if (probe.ready?.id === from) return ok('resume', `${asked}: the server continues there`);
    return unknown('resume', 'resume', `${asked}: ${why}, so it cannot be told`, PUBLISH);
  }
  const skipped = first === undefined ? missed : expected.indexOf(first);
  if (skipped === -1 || skipped >= missed) {
    return problem('resume', 'resume-ignored', {
      seen: `${asked}: of ${counted(missed, 'event')} that came after it, none was sent again`,
      cause: 'the server ignores Last-Event-ID, or something on the way removes it',
      cure: 'keep a history, and send what came after `Last-Event-ID`; let proxies pass the header on',
    });
  }
  const common = Math.min(got.length, expected.length);
  const isInOrder = skipped === 0 && got.slice(0, common).every((id, i) => id === expected[i]);
  if (!isInOrder) {
    return problem('resume', 'resume-hole', {
      seen: `${asked}: events are missing or in another order${skipped > 0 ? `, ${skipped} at the beginning` : ''}`,
      cause:
        'the history is shorter than what was missed and the reader is not told, or instances have different orders',
      cure: 'keep a longer history, tell readers what is lost, and run `sluice check --foreign`, which shows each hole',
    });
  }
  if (common >= missed) {
    return ok('resume', `${asked}: exactly the ${counted(missed, 'event')} that came after it`);
  }
  return unknown(
    'resume',
    'resume',
    `${asked}: ${common} of ${missed} events in ${seconds(probe.age)}, in order so far`,
  );
}
