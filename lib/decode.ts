// Turns the bytes of an event stream into its events, exactly as the HTML standard reads them.
// Stands alone: copy this file by itself. Runs in Node, browsers, workers, Deno and Bun.

/** One event as a reader dispatches it. */
export interface DecodedEvent {
  /** Its type; `'message'` where the stream named none. */
  readonly event: string;
  /** Its text; several `data` lines are joined by LF. */
  readonly data: string;
  /** The id that this very event carried; `undefined` where it carried none. */
  readonly id: string | undefined;
  /** The last event ID in force, from this event or an earlier one: what a reconnect sends. */
  readonly lastEventId: string;
}

export interface DecodeLimits {
  /** The longest line accepted, without its line end: ≥ 1, in bytes of UTF-8. Default 1 MiB. */
  readonly maxLineBytes?: number | undefined;
  /** The most `data` one event may gather, line feeds included: ≥ 1, in bytes of UTF-8. Default 1 MiB. */
  readonly maxEventBytes?: number | undefined;
  /** The last event ID to begin with. A reconnecting reader hands over its own, as browsers do. */
  readonly lastEventId?: string | undefined;
}

export interface DecoderOptions extends DecodeLimits {
  readonly onEvent: (event: DecodedEvent) => void;
  /** A `retry` line: the reconnection time in ms, as sent (unbounded: `Infinity` for absurdly many digits). */
  readonly onRetry?: ((ms: number) => void) | undefined;
  /** A comment, without its colon and one space: proof of life, nothing more. */
  readonly onComment?: ((text: string) => void) | undefined;
  /** A block without data moved the last event ID: no event, but a new place to resume from. */
  readonly onId?: ((lastEventId: string) => void) | undefined;
}

export interface Decoder {
  /** The last event ID in force: committed by a blank line, never by a cut-off event. */
  readonly lastEventId: string;
  /**
   * Reads on. Bytes may be cut anywhere, within a character too; text may be cut anywhere.
   * What follows the last blank line when the stream ends was no event: just feed no more.
   *
   * A handler's exception passes through and leaves the rest of the chunk unread.
   *
   * @throws {DecodeError} when a line or an event grows past its limit, and on every later call.
   */
  feed(chunk: Uint8Array | string): void;
}

/** A limit was passed. The stream cannot be read on from there. */
export interface DecodeError extends Error {
  readonly code: 'ERR_SSE_LINE_TOO_LONG' | 'ERR_SSE_EVENT_TOO_LARGE';
  /** The limit, in bytes. */
  readonly limit: number;
}

const MEBIBYTE = 1024 * 1024;
const LF = 10;
const SPACE = 32;
const COLON = 58;
const LETTER_D = 100;
const LETTER_E = 101;
const LETTER_I = 105;
const BYTE_ORDER_MARK = 0xfeff;
// Beyond the longest string there can be, and still a small integer to the engine.
const NONE = 2 ** 30 - 1;

/**
 * A decoder for one connection; a new connection takes a new one, with `lastEventId` handed over.
 *
 * Work is linear in the input however it is cut, and what is kept between chunks is bounded by the limits.
 *
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export function createDecoder(options: DecoderOptions): Decoder {
  const { onEvent, onRetry, onComment, onId } = options;
  const { maxLineBytes = MEBIBYTE, maxEventBytes = MEBIBYTE } = options;
  checkLimit('maxLineBytes', maxLineBytes);
  checkLimit('maxEventBytes', maxEventBytes);
  // A UTF-16 unit is at most three bytes of UTF-8: up to here nothing needs to be counted.
  const freeLineUnits = Math.floor(maxLineBytes / 3);
  const freeEventUnits = Math.floor(maxEventBytes / 3);
  const freeUnits = Math.min(freeLineUnits, freeEventUnits);
  const reader = createTextReader();
  let failure: DecodeError | undefined;
  let begun = false;
  let skipLf = false;

  // The unfinished line, in the pieces in which it came: joined once, when its end arrives.
  let pieces: string[] = [];
  let pieceUnits = 0;
  let pieceBytes = 0;
  let counted = 0;

  // The unfinished event: `data` holds the lines of this chunk, `earlier` those of the chunks before.
  let type = '';
  let data: string | undefined;
  let earlier: string[] = [];
  let dataUnits = 0;
  let dataBytes = 0;
  let ownId: string | undefined;
  let lastEventId = options.lastEventId ?? '';

  return {
    get lastEventId() {
      return lastEventId;
    },
    feed(chunk) {
      if (failure !== undefined) throw failure;
      const text = typeof chunk === 'string' ? chunk : reader.read(chunk);
      if (text === '') return;
      const ascii = typeof chunk !== 'string' && reader.ascii ? chunk : undefined;
      readFrom(text, skipWhatWasRead(text), ascii);
      if (data !== undefined) setAside(data);
    },
  };

  // "One leading U+FEFF BYTE ORDER MARK character must be ignored"; and a LF that follows a CR is its half.
  function skipWhatWasRead(text: string): number {
    if (!begun) {
      begun = true;
      return text.charCodeAt(0) === BYTE_ORDER_MARK ? 1 : 0;
    }
    const start = skipLf && text.charCodeAt(0) === LF ? 1 : 0;
    skipLf = false;
    return start;
  }

  function readFrom(text: string, start: number, ascii: Uint8Array | undefined): void {
    const cr = find(text, '\r', start);
    const begin = pieces.length === 0 ? start : endHeldLine(text, start, cr);
    const at = cr === NONE ? readPlain(text, begin, ascii) : readMixed(text, begin, cr);
    if (at < text.length) hold(text.slice(at));
  }

  // Returns where the next line begins: past the end, when this one is still unfinished.
  function endHeldLine(text: string, start: number, cr: number): number {
    const end = Math.min(find(text, '\n', start), cr);
    hold(end === NONE ? text.slice(start) : text.slice(start, end));
    if (end === NONE) return text.length;
    const line = pieces.join('');
    pieces = [];
    pieceUnits = pieceBytes = counted = 0;
    readLine(line, 0, line.length);
    return end === cr ? stepOverCr(text, end) : end + 1;
  }

  // Lines that end in LF only, as nearly all do: returns where the unfinished one begins. Blank lines, comments that
  // nobody wants and lines of data are told here: that makes a stream of heartbeats twice as quick to read.
  function readPlain(text: string, start: number, ascii: Uint8Array | undefined): number {
    let bytes = ascii;
    let at = start;
    for (;;) {
      if (bytes !== undefined && at < bytes.length && bytes[at]! >= LETTER_D && isBetweenEvents()) {
        const begin = at;
        at = readFrames(text, begin, bytes);
        // A stream of other shapes: asking at each of its events would cost more than it gives.
        if (at === begin) bytes = undefined;
      }
      const end = text.indexOf('\n', at);
      if (end === -1) return at;
      if (end === at) dispatch();
      else if (end - at > freeUnits) readLine(text, at, end);
      else if (data === undefined && isData(text, at)) {
        at = readData(text, at, end);
        continue;
      } else if (onComment !== undefined || text.charCodeAt(at) !== COLON) readLine(text, at, end);
      at = end + 1;
    }
  }

  // An event's first line of data and those that follow it at once: nearly always all of them, and then the event
  // is dispatched without its data being set aside. Returns where the next line begins.
  function readData(text: string, start: number, firstEnd: number): number {
    let lines = text.slice(skipSpace(text, start + 5), firstEnd);
    let at = firstEnd + 1;
    while (isData(text, at)) {
      const end = text.indexOf('\n', at);
      if (end === -1 || end - start > freeUnits) break;
      lines = `${lines}\n${text.slice(skipSpace(text, at + 5), end)}`;
      at = end + 1;
    }
    if (earlier.length > 0 || !is(text, at, LF)) {
      addData(lines);
      return at;
    }
    const id = ownId;
    const event = type === '' ? 'message' : type;
    type = '';
    if (id !== undefined) {
      ownId = undefined;
      lastEventId = id;
    }
    onEvent({ event, data: lines, id, lastEventId });
    return at + 1;
  }

  function isBetweenEvents(): boolean {
    return data === undefined && type === '' && ownId === undefined && earlier.length === 0;
  }

  // The fast path: whole events of the two shapes that servers write. Anything else is left to `readLine`.
  // Where all is ASCII the bytes stand where the text's units stand, and are quicker asked: a hub's event of 145
  // bytes takes a fifth to a third less time than line by line (Node 20 to 26; bench/decode.bench.ts).
  function readFrames(text: string, start: number, ascii: Uint8Array): number {
    for (let at = start; ; ) {
      const named = readBare(text, at, ascii, freeUnits, lastEventId, onEvent);
      at = readNamed(text, named, ascii);
      if (at === named) return at;
    }
  }

  // One event of an `id`, an `event` and a `data` line, of which the first two may be missing.
  function readNamed(text: string, start: number, ascii: Uint8Array): number {
    const last = ascii.length - 1;
    let at = start;
    let id: string | undefined;
    let event = '';
    if (at + 6 <= last && isIdAt(ascii, at)) {
      const end = endOfWord(ascii, at + 3);
      if (end > last || ascii[end] !== LF) return start;
      id = text.slice(ascii[at + 3] === SPACE ? at + 4 : at + 3, end);
      at = end + 1;
    }
    if (at + 6 <= last && isEventAt(ascii, at)) {
      const end = endOfWord(ascii, at + 6);
      if (end > last || ascii[end] !== LF) return start;
      event = text.slice(ascii[at + 6] === SPACE ? at + 7 : at + 6, end);
      at = end + 1;
    }
    if (at + 6 > last || !isDataAt(ascii, at)) return start;
    const end = text.indexOf('\n', at + 5);
    if (end === -1 || end === last || ascii[end + 1] !== LF || end - start > freeUnits) return start;
    const data = text.slice(ascii[at + 5] === SPACE ? at + 6 : at + 5, end);
    if (id !== undefined) lastEventId = id;
    onEvent({ event: event === '' ? 'message' : event, data, id, lastEventId });
    return end + 2;
  }

  function readMixed(text: string, start: number, firstCr: number): number {
    let at = start;
    let lf = find(text, '\n', at);
    let cr = firstCr < at ? find(text, '\r', at) : firstCr;
    for (let end = Math.min(lf, cr); end !== NONE; end = Math.min(lf, cr)) {
      readLine(text, at, end);
      at = end === lf ? end + 1 : stepOverCr(text, end);
      if (lf < at) lf = find(text, '\n', at);
      if (cr < at) cr = find(text, '\r', at);
    }
    return at;
  }

  // A CR ends its line at once; whether it is half of a CRLF the next chunk may tell.
  function stepOverCr(text: string, cr: number): number {
    if (cr + 1 === text.length) skipLf = true;
    return is(text, cr + 1, LF) ? cr + 2 : cr + 1;
  }

  function readLine(text: string, start: number, end: number): void {
    if (start === end) {
      dispatch();
      return;
    }
    if (end - start > freeLineUnits && utf8Length(text.slice(start, end)) > maxLineBytes) fail('line');
    // The lines that nearly all streams are made of are told without looking for a colon.
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

  // "If the data buffer is an empty string": no event, but the id holds all the same.
  function dispatch(): void {
    if (data === undefined && ownId === undefined && type === '' && earlier.length === 0) return;
    const id = ownId;
    const event = type === '' ? 'message' : type;
    const text = earlier.length === 0 ? data : takeData();
    type = '';
    data = undefined;
    dataUnits = dataBytes = 0;
    if (id !== undefined) {
      ownId = undefined;
      lastEventId = id;
    }
    if (text !== undefined) onEvent({ event, data: text, id, lastEventId });
    else if (id !== undefined) onId?.(id);
  }

  // A slice keeps the whole chunk that it was cut from alive; `join` makes a string of its own.
  function setAside(lines: string): void {
    earlier.push([lines, ''].join('\n'));
    data = undefined;
  }

  function takeData(): string {
    const text = earlier.join('');
    earlier = [];
    return data === undefined ? text.slice(0, -1) : text + data;
  }

  // Counts what was gathered so far once, then only what is added.
  function countData(line: string): void {
    if (dataBytes > 0) dataBytes += utf8Length(line) + 1;
    else for (const lines of [...earlier, data ?? '']) dataBytes += utf8Length(lines);
    if (dataBytes > maxEventBytes) fail('event');
  }

  function hold(piece: string): void {
    pieces.push(piece);
    pieceUnits += piece.length;
    if (pieceUnits <= freeLineUnits) return;
    while (counted < pieces.length) pieceBytes += utf8Length(pieces[counted++]!);
    if (pieceBytes > maxLineBytes) fail('line');
  }

  function fail(what: 'line' | 'event'): never {
    pieces = earlier = [];
    data = undefined;
    failure = what === 'line' ? tooLong(maxLineBytes) : tooLarge(maxEventBytes);
    throw failure;
  }
}

/** Anything that yields the stream's chunks in order: a Node `Readable`, a fetch `body`, an array. */
export type DecodeSource =
  | AsyncIterable<Uint8Array | string>
  | Iterable<Uint8Array | string>
  | ReadableStream<Uint8Array>;

/**
 * The events of a stream: `for await (const { event, data } of decode(response.body)) …`.
 *
 * Reads on only when asked for the next event, and lets go of the source when the loop is left.
 * It does not reconnect; a source that fails fails the loop.
 *
 * @throws {DecodeError} when a line or an event grows past its limit.
 */
export async function* decode(
  source: DecodeSource,
  limits: DecodeLimits = {},
): AsyncGenerator<DecodedEvent, void, undefined> {
  let events: DecodedEvent[] = [];
  const decoder = createDecoder({ ...limits, onEvent: (event) => events.push(event) });
  for await (const chunk of chunksOf(source)) {
    decoder.feed(chunk);
    const ready = events;
    events = [];
    yield* ready;
  }
}

/**
 * The same as a `TransformStream`: `response.body.pipeThrough(decoderStream())`.
 *
 * A limit passed errors both sides with the {@link DecodeError}.
 */
export function decoderStream(limits: DecodeLimits = {}): TransformStream<Uint8Array | string, DecodedEvent> {
  let decoder: Decoder;
  return new TransformStream({
    start(controller) {
      decoder = createDecoder({ ...limits, onEvent: (event) => controller.enqueue(event) });
    },
    transform(chunk) {
      decoder.feed(chunk);
    },
  });
}

// Events of one `data` line and nothing else, as language models send them by the thousand.
function readBare(
  text: string,
  start: number,
  ascii: Uint8Array,
  freeUnits: number,
  lastEventId: string,
  onEvent: (event: DecodedEvent) => void,
): number {
  const last = ascii.length - 1;
  let at = start;
  while (at + 6 <= last && isDataAt(ascii, at)) {
    const end = text.indexOf('\n', at + 5);
    if (end === -1 || end === last || ascii[end + 1] !== LF || end - at > freeUnits) break;
    const data = text.slice(ascii[at + 5] === SPACE ? at + 6 : at + 5, end);
    onEvent({ event: 'message', data, id: undefined, lastEventId });
    at = end + 2;
  }
  return at;
}

function isDataAt(ascii: Uint8Array, at: number): boolean {
  return (
    ascii[at] === LETTER_D &&
    ascii[at + 1] === 97 &&
    ascii[at + 2] === 116 &&
    ascii[at + 3] === 97 &&
    ascii[at + 4] === COLON
  );
}

function isIdAt(ascii: Uint8Array, at: number): boolean {
  return ascii[at] === LETTER_I && ascii[at + 1] === LETTER_D && ascii[at + 2] === COLON;
}

function isEventAt(ascii: Uint8Array, at: number): boolean {
  return (
    ascii[at] === LETTER_E &&
    ascii[at + 1] === 118 &&
    ascii[at + 2] === LETTER_E &&
    ascii[at + 3] === 110 &&
    ascii[at + 4] === 116 &&
    ascii[at + 5] === COLON
  );
}

// The first control character: the line's end, or something that the slow path must judge, as NUL in an id.
function endOfWord(ascii: Uint8Array, from: number): number {
  let at = from;
  while (at < ascii.length && ascii[at]! >= SPACE) at++;
  return at;
}

const DIGITS = /^[0-9]+$/;

function find(text: string, lineEnd: string, from: number): number {
  const at = text.indexOf(lineEnd, from);
  return at === -1 ? NONE : at;
}

// Reading past the end would give NaN all the same, but costs the engine its fast path for good.
function is(text: string, at: number, code: number): boolean {
  return at < text.length && text.charCodeAt(at) === code;
}

function isData(text: string, at: number): boolean {
  return (
    at + 4 < text.length &&
    text.charCodeAt(at) === LETTER_D &&
    text.charCodeAt(at + 1) === 97 &&
    text.charCodeAt(at + 2) === 116 &&
    text.charCodeAt(at + 3) === 97 &&
    text.charCodeAt(at + 4) === COLON
  );
}

function isId(text: string, at: number): boolean {
  return is(text, at + 1, LETTER_D) && is(text, at + 2, COLON);
}

function isEvent(text: string, at: number): boolean {
  return (
    at + 5 < text.length &&
    text.charCodeAt(at + 1) === 118 &&
    text.charCodeAt(at + 2) === LETTER_E &&
    text.charCodeAt(at + 3) === 110 &&
    text.charCodeAt(at + 4) === 116 &&
    text.charCodeAt(at + 5) === COLON
  );
}

function skipSpace(text: string, at: number): number {
  return is(text, at, SPACE) ? at + 1 : at;
}

function utf8Length(text: string): number {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    // Each half of a surrogate pair is two of its four bytes.
    bytes += unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 1 : 2;
  }
  return bytes;
}

// On Node 20 decoding a whole chunk of ASCII is several times faster than a streaming decoder; such a chunk
// cannot end within a character; other text is better off with the streaming one (bench/decode.bench.ts).
interface TextReader {
  /** What was read last was ASCII from end to end: each byte is one unit of the text. */
  ascii: boolean;
  read(bytes: Uint8Array): string;
}

function createTextReader(): TextReader {
  const whole = new TextDecoder('utf-8', { ignoreBOM: true });
  let streaming: InstanceType<typeof TextDecoder> | undefined;
  let withinCharacter = false;
  let wide = false;
  const reader: TextReader = {
    ascii: false,
    read(bytes) {
      if (bytes.length === 0) return '';
      const asWhole = !wide && !withinCharacter && bytes[bytes.length - 1]! < 0x80;
      streaming ??= asWhole ? undefined : new TextDecoder('utf-8', { ignoreBOM: true });
      const text = asWhole ? whole.decode(bytes) : streaming!.decode(bytes, { stream: true });
      withinCharacter = bytes[bytes.length - 1]! >= 0x80;
      wide = text.length !== bytes.length;
      reader.ascii = asWhole && !wide;
      return text;
    },
  };
  return reader;
}

async function* chunksOf(source: DecodeSource): AsyncGenerator<Uint8Array | string, void, undefined> {
  if (Symbol.asyncIterator in source || Symbol.iterator in source) return yield* source;
  // Not every browser's ReadableStream can be iterated.
  const reader = (source as ReadableStream<Uint8Array>).getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    await reader.cancel();
  }
}

function checkLimit(name: string, value: number): void {
  if (value === Number.POSITIVE_INFINITY || (Number.isInteger(value) && value >= 1)) return;
  throw new RangeError(`\`${name}\` must be a whole number of bytes ≥ 1, or Infinity, got ${String(value)}`);
}

function tooLong(limit: number): DecodeError {
  const error = new Error(`a line of the event stream is longer than ${limit} bytes`);
  return Object.assign(error, { code: 'ERR_SSE_LINE_TOO_LONG' as const, limit });
}

function tooLarge(limit: number): DecodeError {
  const error = new Error(`the data of an event is larger than ${limit} bytes`);
  return Object.assign(error, { code: 'ERR_SSE_EVENT_TOO_LARGE' as const, limit });
}
