// What `sluice doctor` finds, in words, and what it finds it from.
// Needs `doctor-probe.ts` beside it.

import type { Head, Probe } from './doctor-probe.ts';

/** `unknown`: there was no evidence; `seen` says what would give some. */
export type State = 'ok' | 'unknown' | 'warning' | 'problem';

export interface Finding {
  /** What was examined. */
  readonly check: Check;
  /** What was found: a stable name, that of the check where nothing is wrong. */
  readonly code: string;
  readonly state: State;
  readonly seen: string;
  readonly cause?: string | undefined;
  readonly cure?: string | undefined;
}

export type Check =
  | 'answer'
  | 'http-version'
  | 'length'
  | 'caching'
  | 'compression'
  | 'timing'
  | 'buffering'
  | 'heartbeat'
  | 'ending'
  | 'resume'
  | 'cors';

export interface Evidence {
  /** The stream as a browser asks for it. */
  readonly main: Probe;
  /** The same without compression, where the first one gave reason for it. */
  readonly plain?: Probe | undefined;
  readonly resume?: Resume | undefined;
  /** The answer to HEAD, where a GET got no head. */
  readonly head?: Head | undefined;
  readonly cors?: Cors | undefined;
  /** A connection without a request, where it says more than the answer. */
  readonly reach?: Reach | undefined;
  /** Milliseconds that the stream was followed, where nothing ended it. */
  readonly wait: number;
  /** The parameter by which the stream has only some of the events. */
  readonly partial?: string | undefined;
}

export interface Reach {
  /** Whether a connection was made, with TLS where the URL asks for it. */
  readonly isConnected: boolean;
  /** The protocol that TLS chose from `h2` and `http/1.1`, `''` for neither; `undefined` without TLS. */
  readonly alpn?: string | undefined;
}

export interface Resume {
  readonly probe: Probe;
  /** What was sent as `Last-Event-ID`. */
  readonly from: string;
  /** How many events the main stream had got after that id by then. */
  readonly missed: number;
}

export interface Cors {
  readonly origin: string;
  readonly credentials: boolean;
  /** Headers of the user that make a page's request need a preflight. */
  readonly asked: readonly string[];
  /** The request and those that follow its redirects. */
  readonly hops: readonly CorsHop[];
}

export interface CorsHop {
  readonly url: URL;
  /** What was sent as `Origin`: `null` after a redirect from one foreign origin to another. */
  readonly origin: string;
  readonly answer: Head | undefined;
  /** The answer to OPTIONS, where headers were asked for. */
  readonly preflight: Head | undefined;
}

export function isRedirect({ status }: Head): boolean {
  return [301, 302, 303, 307, 308].includes(status);
}

type Details = Omit<Finding, 'check' | 'code' | 'state'>;

export function ok(check: Check, seen: string): Finding {
  return { check, code: check, state: 'ok', seen };
}

export function unknown(check: Check, code: string, seen: string, cure?: string): Finding {
  return { check, code, state: 'unknown', seen, cure };
}

export function warning(check: Check, code: string, details: Details): Finding {
  return { check, code, state: 'warning', ...details };
}

export function problem(check: Check, code: string, details: Details): Finding {
  return { check, code, state: 'problem', ...details };
}

/** The end of what a status means to a page. */
export const GIVES_UP: string = 'a browser’s EventSource gives up for good after this answer';

export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

export function ms(time: number): string {
  return `${Math.round(time)} ms`;
}

export function seconds(time: number): string {
  return `${(time / 1000).toFixed(1)} s`;
}
