// Turns the bytes of an event stream into its events, exactly as the HTML standard reads them.
// Needs `decode-bytes.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.

import {
  copyOf,
  createTextReader,
  endOfWord,
  is,
  isBlank,
  isData,
  isDataAt,
  isEvent,
  isEventAt,
  isId,
  isIdAt,
  joinPieces,
  readShort,
  SHORT,
  skipSpace,
  utf8Length,
} from './decode-bytes.ts';

/** One event, as the standard dispatches it. */
export interface DecodedEvent {
  /** Its type; `'message'` where the stream names none. */
  readonly event: string;
  /** Its text; several `data` lines are joined by LF. */
  readonly data: string;
  /** The event's own id; `undefined` where it has none. */
  readonly id: string | undefined;
  /**
   * The last event ID in force, from this event or an earlier one: the one that a reconnecting client sends.
   */
  readonly lastEventId: string;
}

export interface DecodeLimits {
  /** The longest line accepted, without its line end: ≥ 1, in bytes of UTF-8. Default 1 MiB + 64 KiB. */
  readonly maxLineBytes?: number | undefined;
  /** The most `data` of one event, line feeds included: ≥ 1, in bytes of UTF-8. Default 1 MiB + 64 KiB. */
  readonly maxEventBytes?: number | undefined;
  /** The last event ID in force at the start: after a reconnect, the one of the connection before. */
  readonly lastEventId?: string | undefined;
}

/** Handlers other than `onEvent` get plain values: an object for each comment and each id would cost time. */
export interface DecoderOptions extends DecodeLimits {
  readonly onEvent: (event: DecodedEvent) => void;
  /**
   * Called for each `retry` line with its milliseconds. The value is not limited: 310 digits give `Infinity`.
   */
  readonly onRetry?: ((ms: number) => void) | undefined;
  /** Called for each comment, with its text after the colon and one space. */
  readonly onComment?: ((text: string) => void) | undefined;
  /**
   * Called when a block without data sets the last event ID: it is no event, but gives a new position to
   * resume from.
   */
  readonly onId?: ((lastEventId: string) => void) | undefined;
  /**
   * Called at the end of an event that is larger than a limit. With it, the decoder drops such an event and
   * goes on, unless it has more than 17 MiB; without it, `feed` throws.
   */
  readonly onTooLarge?: ((error: DecodeError) => void) | undefined;
}

export interface Decoder {
  /** The last event ID in force. A blank line sets it, so the id of an event that is cut off never does. */
  readonly lastEventId: string;
  /**
   * Decodes one more chunk. A chunk may end anywhere, a chunk of bytes even within a character. Nothing needs to
   * be called at the end of a stream: the standard discards the text after the last blank line.
   *
   * An exception from a handler propagates to the caller, and the rest of the chunk is not decoded.
   *
   * @throws {DecodeError} when a line or an event is larger than its limit, and at each later call.
   */
  feed(chunk: Uint8Array | string): void;
  /** Reads what is left as if a blank line followed, for a server that leaves out the last one. */
  end(): void;
}

/** A line or an event is larger than its limit. Once `feed` throws it, nothing more is decoded. */
export interface DecodeError extends Error {
  readonly code: 'ERR_SSE_LINE_TOO_LONG' | 'ERR_SSE_EVENT_TOO_LARGE';
  /** The limit, in bytes. */
  readonly limit: number;
  /** The event's own id, where that has arrived. */
  readonly id: string | undefined;
}

// The largest event of a default hub, as it is sent.
const DEFAULT_LIMIT = (1024 + 64) * 1024;
const LF = 10;
const SPACE = 32;
const COLON = 58;
const LETTER_D = 100;
const LETTER_E = 101;
const LETTER_I = 105;
const BYTE_ORDER_MARK = 0xfeff;
// Greater than any index into a string, and still a small integer for V8.
const NONE = 2 ** 30 - 1;

// Where events have so many units, text is not worth the time to make bytes of it (bench/decode.bench.ts).
const LONG = 512;
// The most of an unfinished event that is read anew with what follows it.
const MOST_CUT = 4096;

/**
 * Makes the decoder of one connection. Make a new one, with its `lastEventId`, when you reconnect.
 *
 * Time is linear in the input, however it is cut. The limits bound the memory that is kept between chunks.
 *
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export function createDecoder(options: DecoderOptions): Decoder {
  const { onEvent, onRetry, onComment, onId, onTooLarge } = options;
  const { maxLineBytes = DEFAULT_LIMIT, maxEventBytes = DEFAULT_LIMIT } = options;
  checkLimit('maxLineBytes', maxLineBytes);
  checkLimit('maxEventBytes', maxEventBytes);
  // A UTF-16 unit is at most three bytes of UTF-8, so shorter texts need no counting.
  const freeLineUnits = Math.floor(maxLineBytes / 3);
  const freeEventUnits = Math.floor(maxEventBytes / 3);
  const freeUnits = Math.min(freeLineUnits, freeEventUnits);
  const mostCut = Math.min(MOST_CUT, freeUnits);
  const reader = createTextReader();
  let failure: DecodeError | undefined;
  let begun = false;
  let skipLf = false;

  // The unfinished line, in the pieces in which it arrived. They are joined once, when its end arrives.
  let pieces: string[] = [];
  let pieceUnits = 0;
  let pieceBytes = 0;
  let counted = 0;
  let joined = 0;

  // The unfinished event: `data` holds the lines of this chunk, `earlier` those of the chunks before.
  let type = '';
  let data: string | undefined;
  let earlier: string[] = [];
  let joinedEarlier = 0;
  let dataUnits = 0;
  let dataBytes = 0;
  let ownId: string | undefined;
  let lastEventId = options.lastEventId ?? '';

  // What there is of an event that a chunk has cut, if no more was read of it: the fast paths then read it
  // whole.
  let cutEvent = '';
  // Where a fast path stopped, and whether the text ended there within a line.
  let stoppedAt = 0;
  let isCut = false;
  // Units of the last event that a fast path read, or of the last line that was held.
  let lastSize = 0;

  // Why the unfinished event is dropped, and how much of it was: `earlier` keeps it from the fast paths then.
  let dropped: DecodeError | undefined;
  let droppedUnits = 0;

  return {
    get lastEventId() {
      return lastEventId;
    },
    feed,
    // The first line end may belong to a CR.
    end: () => feed(`${reader.end()}\n\n`),
  };

  function feed(chunk: Uint8Array | string): void {
    if (failure !== undefined) throw failure;
    const text = typeof chunk === 'string' ? chunk : reader.read(chunk);
    if (text === '') return;
    readChunk(text, chunk);
    if (text.length > MOST_CUT) letGo(text);
  }

  function readChunk(text: string, chunk: Uint8Array | string): void {
    let at = skipLeading(text);
    const cr = find(text, '\r', at);
    if (cutEvent !== '') at = endCutEvent(text, at, cr);
    else if (pieces.length > 0) at = endHeldLine(text, at, cr);
    if (at === text.length) return;
    if (cr !== NONE) readFrom(text, at, cr, undefined);
    else if (typeof chunk !== 'string') readFrom(text, at, cr, reader.ascii ? chunk : undefined);
    else if (lastSize >= LONG) readFrom(text, at, cr, undefined);
    else reader.withBytes(text, (ascii) => readFrom(text, at, cr, ascii));
  }

  // What stays until the next chunk, which may be long, must not keep this one in memory.
  function letGo(text: string): void {
    lastEventId = copyOf(lastEventId);
    type = copyOf(type);
    cutEvent = copyOf(cutEvent);
    if (ownId !== undefined) ownId = copyOf(ownId);
    const piece = pieces.at(-1);
    if (piece !== undefined && piece.length < text.length / 2) pieces[pieces.length - 1] = copyOf(piece);
  }

  // "One leading U+FEFF BYTE ORDER MARK character must be ignored"; a LF right after a CR belongs to the same
  // line end.
  function skipLeading(text: string): number {
    if (!begun) {
      begun = true;
      return text.charCodeAt(0) === BYTE_ORDER_MARK ? 1 : 0;
    }
    const start = skipLf && text.charCodeAt(0) === LF ? 1 : 0;
    skipLf = false;
    return start;
  }

  // Reads events whole where it can, and by lines those that are not of the usual shape. No part of the text is
  // tried twice.
  function readFrom(text: string, start: number, firstCr: number, bytes: Uint8Array | undefined): void {
    let cr = firstCr;
    let lf = -1;
    stoppedAt = -1;
    for (let at = start; at < text.length; ) {
      if (cr < at) cr = find(text, '\r', at);
      if (cr !== NONE && lf < at) lf = find(text, '\n', at);
      // Where a line ends in CR alone, a fast path would only search for a LF, which may be far away.
      const endsInLf = cr === NONE || lf <= cr + 1;
      if (endsInLf && at > stoppedAt && isBetweenEvents()) {
        at = bytes === undefined ? readText(text, at, cr) : readBytes(text, at, bytes);
        if (at === text.length) return;
        if (isCut && at > 0 && text.length - at <= mostCut) {
          cutEvent = text.slice(at);
          return;
        }
        if (isCut && at === stoppedAt) return hold(text.slice(at));
      }
      if (cr < at) cr = find(text, '\r', at);
      if (lf < at) lf = find(text, '\n', at);
      const end = Math.min(lf, cr);
      if (end === NONE) {
        hold(text.slice(at));
        break;
      }
      readLine(text, at, end);
      at = end === lf ? end + 1 : stepOverCr(text, end);
    }
    if (data !== undefined) setAside(data);
  }

  function isBetweenEvents(): boolean {
    return data === undefined && type === '' && ownId === undefined && earlier.length === 0;
  }

  // Reads the cut event with what this chunk has of it, as a text of its own. Returns where that ends.
  function endCutEvent(text: string, start: number, cr: number): number {
    const begin = cutEvent;
    cutEvent = '';
    let end = text.indexOf('\n', start) + 1;
    while (end > 0 && end < text.length && !isBlank(text, end)) end = text.indexOf('\n', end) + 1;
    if (end === 0) {
      readFrom(begin, 0, find(begin, '\r', 0), undefined);
      return endHeldLine(text, start, cr);
    }
    if (end < text.length) end = text.indexOf('\n', end) + 1;
    const whole = begin + text.slice(start, end);
    readFrom(whole, 0, find(whole, '\r', 0), undefined);
    return end;
  }

  // Returns where the next line begins, or the length of the text when this line is still unfinished.
  function endHeldLine(text: string, start: number, cr: number): number {
    const end = Math.min(find(text, '\n', start), cr);
    hold(end === NONE ? text.slice(start) : text.slice(start, end));
    if (end === NONE) return text.length;
    const line = pieceBytes > maxLineBytes ? undefined : pieces.join('');
    pieces = [];
    pieceUnits = pieceBytes = counted = joined = 0;
    if (line !== undefined) {
      lastSize = line.length;
      readLine(line, 0, lastSize);
    }
    return end === cr ? stepOverCr(text, end) : end + 1;
  }

  // Reads whole events, of lines that end in LF or CRLF. Returns where the event begins at which it stops: one
  // that is cut, has a line of another kind, or is so large that its bytes must be counted.
  function readText(text: string, start: number, firstCr: number): number {
    let cr = firstCr;
    let begin = start;
    let at = start;
    let id: string | undefined;
    let event = '';
    let lines: string | undefined;
    isCut = false;
    for (;;) {
      const lf = text.indexOf('\n', at);
      let end = lf;
      if (cr <= lf) {
        if (cr !== lf - 1) break;
        end = cr;
        cr = find(text, '\r', lf);
      }
      if (lf === -1) {
        // A CR may be the end of a line.
        isCut = cr === NONE;
        break;
      }
      if (lf - begin > freeUnits) break;
      const first = end === at ? LF : text.charCodeAt(at);
      if (first === LETTER_D && isData(text, at)) {
        const line = text.slice(skipSpace(text, at + 5), end);
        lines = lines === undefined ? line : `${lines}\n${line}`;
        at = lf + 1;
        if (!is(text, at, LF)) continue;
      } else if (first === LETTER_I && isId(text, at)) {
        id = text.slice(skipSpace(text, at + 3), end);
        if (id.indexOf('\0') !== -1) break;
        at = lf + 1;
        continue;
      } else if (first === LETTER_E && isEvent(text, at)) {
        event = text.slice(skipSpace(text, at + 6), end);
        at = lf + 1;
        continue;
      } else if (first === COLON && onComment === undefined) {
        at = lf + 1;
        continue;
      } else if (first === LF) at = lf;
      else break;
      take(event, lines, id);
      at++;
      lastSize = at - begin;
      begin = at;
      id = lines = undefined;
      event = '';
    }
    stoppedAt = at;
    return begin;
  }

  // As `readText`, in a text of ASCII without CR. There the index of a byte is that of its UTF-16 unit, and
  // bytes are faster to look at.
  function readBytes(text: string, start: number, bytes: Uint8Array): number {
    const last = bytes.length - 1;
    let at = lastSize < SHORT ? readShort(text, start, bytes, freeUnits, lastEventId, onEvent) : start;
    let begin = at;
    let end = 0;
    let id: string | undefined;
    let event = '';
    let lines: string | undefined;
    for (;;) {
      if (at - begin > freeUnits) break;
      // So near the end are short lines only, which `readText` knows as well.
      if (at + 6 > last) return readText(text, begin, NONE);
      const first = bytes[at];
      if (first === LETTER_D) {
        if (!isDataAt(bytes, at)) break;
        const from = bytes[at + 5] === SPACE ? at + 6 : at + 5;
        end = text.indexOf('\n', from);
        if (end === -1 || end - begin > freeUnits) break;
        const line = text.slice(from, end);
        lines = lines === undefined ? line : `${lines}\n${line}`;
        at = end + 1;
        if (at > last || bytes[at] !== LF) continue;
      } else if (first === LETTER_I) {
        if (!isIdAt(bytes, at)) break;
        end = endOfWord(bytes, at + 3);
        if (end > last || bytes[end] !== LF) break;
        id = text.slice(bytes[at + 3] === SPACE ? at + 4 : at + 3, end);
        at = end + 1;
        continue;
      } else if (first === LETTER_E) {
        if (!isEventAt(bytes, at)) break;
        end = endOfWord(bytes, at + 6);
        if (end > last || bytes[end] !== LF) break;
        event = text.slice(bytes[at + 6] === SPACE ? at + 7 : at + 6, end);
        at = end + 1;
        continue;
      } else if (first === COLON && onComment === undefined) {
        end = text.indexOf('\n', at);
        if (end === -1) break;
        at = end + 1;
        continue;
      } else if (first !== LF) break;
      take(event, lines, id);
      at++;
      lastSize = at - begin;
      begin = at;
      id = lines = undefined;
      event = '';
    }
    isCut = end === -1 || end > last;
    stoppedAt = at;
    return begin;
  }

  // "If the data buffer is an empty string", there is no event, but the id takes effect.
  function take(event: string, text: string | undefined, id: string | undefined): void {
    if (id !== undefined) lastEventId = id;
    if (text !== undefined) onEvent({ event: event === '' ? 'message' : event, data: text, id, lastEventId });
    else if (id !== undefined) onId?.(id);
  }

  // A CR ends its line at once. Where it ends the chunk, a LF at the start of the next one belongs to it.
  function stepOverCr(text: string, cr: number): number {
    if (cr + 1 === text.length) skipLf = true;
    return is(text, cr + 1, LF) ? cr + 2 : cr + 1;
  }

  function readLine(text: string, start: number, end: number): void {
    if (start === end) return dispatch();
    if (end - start > freeLineUnits && utf8Length(text.slice(start, end)) > maxLineBytes)
      return drop(end - start, true);
    // The common lines are recognised without a search for the colon.
    const first = text.charCodeAt(start);
    if (first === LETTER_D && isData(text, start)) addData(text.slice(skipSpace(text, start + 5), end));
    else if (first === COLON) onComment?.(text.slice(skipSpace(text, start + 1), end));
    else if (first === LETTER_I && isId(text, start)) setId(text.slice(skipSpace(text, start + 3), end));
    else if (first === LETTER_E && isEvent(text, start)) type = text.slice(skipSpace(text, start + 6), end);
    else readField(text.slice(start, end));
  }

  function readField(line: string): void {
    const colon = line.indexOf(':');
    const name = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? '' : line.slice(skipSpace(line, colon + 1));
    if (name === 'data') addData(value);
    else if (name === 'event') type = value;
    else if (name === 'id') setId(value);
    else if (name === 'retry' && DIGITS.test(value)) onRetry?.(Number(value));
  }

  function setId(value: string): void {
    if (value.indexOf('\0') === -1) ownId = value;
  }

  function addData(line: string): void {
    data = data === undefined ? line : `${data}\n${line}`;
    dataUnits += line.length + 1;
    if (dataUnits > freeEventUnits) countData(line);
  }

  function dispatch(): void {
    if (isBetweenEvents()) return;
    const event = type;
    const text = earlier.length === 0 ? data : takeData();
    const id = ownId;
    const error = dropped;
    type = '';
    data = ownId = dropped = undefined;
    dataUnits = dataBytes = droppedUnits = 0;
    if (error === undefined) return take(event, text, id);
    if (id !== undefined) lastEventId = id;
    onTooLarge?.(Object.assign(error, { id }));
  }

  function setAside(lines: string): void {
    joinedEarlier = joinPieces(earlier, joinedEarlier);
    earlier.push([lines, ''].join('\n'));
    data = undefined;
  }

  function takeData(): string {
    const text = earlier.join('');
    earlier = [];
    joinedEarlier = 0;
    return data === undefined ? text.slice(0, -1) : text + data;
  }

  // Counts all data of the event at the first call, then only the line that was added.
  function countData(line: string): void {
    if (dataBytes > 0) dataBytes += utf8Length(line) + 1;
    else for (const lines of [...earlier, data ?? '']) dataBytes += utf8Length(lines);
    if (dataBytes > maxEventBytes || dropped !== undefined) drop(line.length + 1, false);
  }

  function hold(piece: string): void {
    joined = joinPieces(pieces, joined);
    counted = Math.min(counted, pieces.length);
    pieces.push(piece);
    pieceUnits += piece.length;
    if (pieceUnits <= freeLineUnits) return;
    while (counted < pieces.length) pieceBytes += utf8Length(pieces[counted++]!);
    if (pieceBytes <= maxLineBytes) return;
    drop(dropped === undefined ? pieceUnits : piece.length, true);
    pieces = [''];
    counted = 1;
  }

  // Drops what has arrived of an event that is too large, and what arrives until its end.
  function drop(units: number, isLine: boolean): void {
    dropped ??= tooLarge(isLine, isLine ? maxLineBytes : maxEventBytes);
    droppedUnits += units;
    data = undefined;
    earlier = [''];
    dataUnits = freeEventUnits + 1; // so that `countData` gets each further line
    if (onTooLarge !== undefined && droppedUnits <= 16 * DEFAULT_LIMIT) return;
    pieces = earlier = [];
    failure = Object.assign(dropped, { id: ownId });
    throw failure;
  }
}

/** The chunks of a stream, in order: a Node `Readable`, the `body` of a fetch response, an array. */
export type DecodeSource = AsyncIterable<Uint8Array | string> | Iterable<Uint8Array | string> | ByteStream;

/** The members of a `ReadableStream` that are used. */
export interface ByteStream {
  getReader(): {
    read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
    cancel(): Promise<void>;
  };
}

export interface DecodeOptions extends DecodeLimits, Pick<DecoderOptions, 'onComment' | 'onId' | 'onRetry'> {
  /**
   * Whether to take an event at the end of the source that lacks its blank line. The standard discards it,
   * because its end may be missing. Default false.
   */
  readonly dispatchAtEnd?: boolean | undefined;
}

/**
 * Yields the events of a stream: `for await (const { event, data } of decode(response.body)) …`.
 *
 * Reads only when the loop asks for the next event, and closes the source when the loop is left. It does not
 * reconnect: an error of the source is thrown. A relay sends comments on in `onComment`, which is called before
 * the events of the same chunk are yielded, as `onId` and `onRetry` are.
 *
 * @throws {DecodeError} when a line or an event is larger than its limit, after the events before it.
 */
export async function* decode(
  source: DecodeSource,
  options: DecodeOptions = {},
): AsyncGenerator<DecodedEvent, void, undefined> {
  const events: DecodedEvent[] = [];
  const decoder = createDecoder({ ...options, onEvent: (event) => events.push(event) });
  for await (const chunk of chunksOf(source)) {
    try {
      decoder.feed(chunk);
    } finally {
      yield* events.splice(0);
    }
  }
  if (options.dispatchAtEnd) decoder.end();
  yield* events;
}

const DIGITS = /^[0-9]+$/;

function find(text: string, lineEnd: string, from: number): number {
  const at = text.indexOf(lineEnd, from);
  return at === -1 ? NONE : at;
}

async function* chunksOf(source: DecodeSource): AsyncGenerator<Uint8Array | string, void, undefined> {
  if (Symbol.asyncIterator in source || Symbol.iterator in source) return yield* source;
  // In some browsers a ReadableStream is not iterable.
  const reader = source.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value!;
  } finally {
    await reader.cancel();
  }
}

function checkLimit(name: string, value: number): void {
  if (value === Infinity || (Number.isInteger(value) && value >= 1)) return;
  throw new RangeError(`\`${name}\` must be a whole number of bytes ≥ 1, or Infinity, got ${String(value)}`);
}

function tooLarge(isLine: boolean, limit: number): DecodeError {
  const [code, what, option] = isLine
    ? (['ERR_SSE_LINE_TOO_LONG', 'a line of the event stream is longer', 'maxLineBytes'] as const)
    : (['ERR_SSE_EVENT_TOO_LARGE', 'the data of an event is larger', 'maxEventBytes'] as const);
  const error = new Error(`${what} than ${limit} bytes (\`${option}\`)`);
  return Object.assign(error, { code, limit, id: undefined });
}
