// Handles the requests of one connection one after another, however many a client sends at once.
// Needs `problem.ts` beside it.

import { sendProblem } from './problem.ts';

/** The members of a request that are used: those of HTTP/1 and HTTP/2 alike. */
export interface PipelinedRequest {
  readonly httpVersionMajor: number;
  readonly socket: PipelinedSocket;
  /** On HTTP/2. */
  readonly stream?: { readonly session?: object | undefined; close(code: number): unknown } | undefined;
}

export interface PipelinedSocket {
  readonly destroyed: boolean;
  destroy(): unknown;
  once(event: 'close', listener: () => void): unknown;
  off(event: 'close', listener: () => void): unknown;
}

export interface PipelinedResponse {
  /** Where it is missing, as in made-up responses of tests, the request does not wait. */
  readonly req?: PipelinedRequest | undefined;
  shouldKeepAlive?: boolean | undefined;
  on(event: 'close' | 'finish', listener: () => void): unknown;
  writeHead(status: number, headers: Record<string, string>): unknown;
  end(body: string): unknown;
}

export interface PipeliningOptions {
  /**
   * Requests of one HTTP/1 connection that may always wait for their turn; default 100. More may wait while
   * there is room for them in `maxWaitingInAll`. One more than that is answered 429 in their place, and the
   * connection closes. Each takes about 2 KB.
   */
  maxWaiting?: number | undefined;
  /**
   * Requests of all HTTP/1 connections together up to which one may exceed its `maxWaiting`; default 5,000,
   * which is 10 MB.
   */
  maxWaitingInAll?: number | undefined;
  /**
   * Requests of one HTTP/2 session that may be in progress at once, streams included; default 100. One more
   * is refused with `REFUSED_STREAM`, after which a client may send it again. Announce the same number to
   * clients: `createSecureServer({ settings: { maxConcurrentStreams: 100 } })`. Behind a proxy that sends the
   * requests of all its clients over one session, raise both.
   */
  maxConcurrent?: number | undefined;
  /** Called for each connection that is refused, with the request that was one too many. */
  onRefuse?: ((refusal: PipeliningRefusal) => void) | undefined;
}

export interface PipeliningRefusal {
  readonly reason: 'pipeline-full';
  readonly status: 429;
  readonly req: PipelinedRequest;
}

export interface Pipelining {
  (req: PipelinedRequest, res: PipelinedResponse, next: () => unknown): unknown;
  /** How many connections (HTTP/1) and requests (HTTP/2) were refused. */
  readonly refused: { readonly 'pipeline-full': number };
}

/**
 * Makes a middleware to put first: it calls the next one when all earlier answers on the same connection have
 * been sent and taken by the network, in a turn of the event loop of its own.
 *
 * Without it, Node calls the handler for every request that it has read: 1,400 in one turn for 64 KiB of
 * `GET /`. All their answers are then made at once and wait in memory, also where the client reads none.
 *
 * Several of them on one request count as one; the first decides. `serveEvents` has one of its own,
 * without a limit on HTTP/2.
 *
 * @throws {RangeError} naming the option that is out of range.
 */
export function limitPipelining(options: PipeliningOptions = {}): Pipelining {
  const { onRefuse } = options;
  const maxWaiting = atLeast(0, 'maxWaiting', options.maxWaiting ?? 100);
  const maxWaitingInAll = atLeast(0, 'maxWaitingInAll', options.maxWaitingInAll ?? 5000);
  const maxConcurrent = atLeast(1, 'maxConcurrent', options.maxConcurrent ?? 100);
  const room: Room = { maxWaiting, maxWaitingInAll, waiting: 0 };
  const refused = { 'pipeline-full': 0 };

  const refuse = (req: PipelinedRequest): void => {
    refused['pipeline-full']++;
    onRefuse?.({ reason: 'pipeline-full', status: 429, req });
  };

  const middleware = (req: PipelinedRequest, res: PipelinedResponse, next: () => unknown): unknown => {
    const turn =
      req.httpVersionMajor === 1
        ? waitForTurn(req.socket, res, room, () => refuse(req))
        : enterSession(req, res, maxConcurrent, () => refuse(req));
    if (turn === true) return next();
    return turn === false ? undefined : turn.then((isMine) => (isMine ? next() : undefined));
  };
  return Object.assign(middleware, { refused });
}

/** How many requests wait behind the one that this connection is occupied with; 0 on HTTP/2. */
export function requestsWaiting(socket: object): number {
  const line = lines.get(socket);
  return line instanceof Line ? line.waiting.length : 0;
}

// ── HTTP/1 ────────────────────────────────────────────────────────────────────────────────────────────────

/** How many requests wait on all connections, and how many may. */
interface Room {
  readonly maxWaiting: number;
  readonly maxWaitingInAll: number;
  waiting: number;
}

interface Waiter {
  readonly res: PipelinedResponse;
  readonly room: Room;
  readonly begin: (isMine: boolean) => void;
}

/** The requests of a connection on which more than one was sent. */
class Line {
  /** The response in progress; `undefined` for the turn between two of them. */
  current: PipelinedResponse | undefined;
  waiting: Waiter[] = [];
  isRefused = false;

  constructor(current: PipelinedResponse) {
    this.current = current;
  }
}

/**
 * For each connection that is occupied: its response, or its line where others wait. Nearly all connections
 * have one request at a time, and streams should cost little.
 */
const lines = new WeakMap<object, PipelinedResponse | Line>();

/** Node sends an answer before those that wait, so a client that reads nothing would keep all of them. */
const REFUSED_TIMEOUT = 5000;

function waitForTurn(
  socket: PipelinedSocket | undefined,
  res: PipelinedResponse,
  room: Room,
  refused: () => void,
): boolean | Promise<boolean> {
  if (socket === undefined || res.req?.socket !== socket) return true;
  const before = lines.get(socket);
  if (before === undefined) {
    lines.set(socket, res);
    // Not 'close', for which a stream has listeners already: one more would cost each stream 150 bytes. Where a
    // response does not finish, its connection closes.
    res.on('finish', onAnswered);
    return true;
  }
  if (before === res) return true;
  const line = before instanceof Line ? before : openLine(socket, before);
  if (line.current === res) return true;
  if (line.isRefused || socket.destroyed) return false;
  if (line.waiting.length >= room.maxWaiting && room.waiting >= room.maxWaitingInAll) {
    refuseLine(socket, line, line.waiting[0]?.res ?? res);
    refused();
    return false;
  }
  room.waiting++;
  return new Promise((begin) => line.waiting.push({ res, room, begin }));
}

function openLine(socket: PipelinedSocket, current: PipelinedResponse): Line {
  const line = new Line(current);
  lines.set(socket, line);
  socket.once('close', onGone);
  return line;
}

function onGone(this: PipelinedSocket): void {
  const line = lines.get(this);
  if (line instanceof Line) dismiss(line);
}

// One function for all responses: one for each would add its bytes to every idle stream.
function onAnswered(this: PipelinedResponse): void {
  const { socket } = this.req!;
  const line = lines.get(socket);
  if (line instanceof Line) advance(socket, line);
  else lines.delete(socket);
}

function advance(socket: PipelinedSocket, line: Line): void {
  line.current = undefined;
  // Otherwise small answers, which the network takes at once, would all be made in one turn.
  setImmediate(() => {
    const next = line.waiting.shift();
    if (line.isRefused) return;
    if (next === undefined) {
      lines.delete(socket);
      // The same connection may have a line again, any number of times.
      socket.off('close', onGone);
      return;
    }
    next.room.waiting--;
    line.current = next.res;
    next.res.on('finish', onAnswered);
    next.begin(true);
  });
}

/**
 * Answers the first that waits, as Node sends answers in the order of the requests, and closes the connection
 * behind it. What the client sent after that is not handled.
 */
function refuseLine(socket: PipelinedSocket, line: Line, first: PipelinedResponse): void {
  line.isRefused = true;
  dismiss(line);
  first.shouldKeepAlive = false;
  const message = 'Too many requests wait on this connection: send more when answers have arrived.';
  sendProblem(first, { status: 429, error: 'pipeline-full', message });
  const timer = setTimeout(() => socket.destroy(), REFUSED_TIMEOUT).unref();
  socket.once('close', () => clearTimeout(timer));
}

function dismiss(line: Line): void {
  for (const { room, begin } of line.waiting.splice(0)) {
    room.waiting--;
    begin(false);
  }
}

// ── HTTP/2 ────────────────────────────────────────────────────────────────────────────────────────────────

/** The responses in progress of each session. */
const sessions = new WeakMap<object, Set<PipelinedResponse>>();

const REFUSED_STREAM = 7;

function enterSession(
  { stream }: PipelinedRequest,
  res: PipelinedResponse,
  maxConcurrent: number,
  refused: () => void,
): boolean {
  const session = stream?.session;
  // A stream that is over has no session.
  if (stream === undefined || session === undefined) return true;
  const open = sessions.get(session) ?? new Set();
  sessions.set(session, open);
  if (open.has(res)) return true;
  if (open.size >= maxConcurrent) {
    stream.close(REFUSED_STREAM);
    refused();
    return false;
  }
  open.add(res);
  res.on('close', () => open.delete(res));
  return true;
}

function atLeast(least: number, name: string, value: number): number {
  if ((Number.isInteger(value) && value >= least) || value === Infinity) return value;
  throw new RangeError(`\`${name}\` must be a whole number ≥ ${least} or Infinity, got ${value}`);
}
