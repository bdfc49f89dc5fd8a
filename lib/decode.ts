// Turns the bytes of an event stream into its events, exactly as the HTML standard reads them.
// Stands alone: copy this file by itself. Runs in Node, browsers, workers, Deno and Bun.

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
  const reader = createTextReader();
  let failure: DecodeError | undefined;
  let begun = false;
  let skipLf = false;

  // The unfinished line, in the pieces in which it arrived. They are joined once, when its end arrives.
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
    const ascii = typeof chunk !== 'string' && reader.ascii ? chunk : undefined;
    readFrom(text, skipLeading(text), ascii);
    if (data !== undefined) setAside(data);
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

  function readFrom(text: string, start: number, ascii: Uint8Array | undefined): void {
    const cr = find(text, '\r', start);
    const begin = pieces.length === 0 ? start : endHeldLine(text, start, cr);
    const at = cr === NONE ? readPlain(text, begin, ascii) : readMixed(text, begin, cr);
    if (at < text.length) hold(text.slice(at));
  }

  // Returns where the next line begins, or the length of the text when this line is still unfinished.
  function endHeldLine(text: string, start: number, cr: number): number {
    const end = Math.min(find(text, '\n', start), cr);
    hold(end === NONE ? text.slice(start) : text.slice(start, end));
    if (end === NONE) return text.length;
    const line = pieceBytes > maxLineBytes ? undefined : pieces.join('');
    pieces = [];
    pieceUnits = pieceBytes = counted = 0;
    if (line !== undefined) readLine(line, 0, line.length);
    return end === cr ? stepOverCr(text, end) : end + 1;
  }

  // Reads lines that end in LF only, as nearly all do, and returns where the unfinished one begins. Handles
  // blank lines, unwanted comments and data lines itself, which doubles the speed for a stream of heartbeats.
  function readPlain(text: string, start: number, ascii: Uint8Array | undefined): number {
    let bytes = ascii;
    let at = start;
    for (;;) {
      if (bytes !== undefined && at < bytes.length && bytes[at]! >= LETTER_D && isBetweenEvents()) {
        const begin = at;
        at = readFrames(text, begin, bytes);
        // The events have another shape: trying the fast path at each of them would cost more than it saves.
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

  // Reads an event's first data line and the data lines right after it. When a blank line follows, as nearly
  // always, it dispatches the event without storing the data. Returns where the next line begins.
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

  // The fast path: reads whole events of the two shapes that servers write, and leaves the rest to
  // `readLine`. In ASCII the index of a byte is that of its UTF-16 unit, and bytes are faster to read: an
  // event of 145 bytes from a hub takes a fifth to a third less time than line by line (Node 20 to 26;
  // bench/decode.bench.ts).
  function readFrames(text: string, start: number, ascii: Uint8Array): number {
    for (let at = start; ; ) {
      const named = readBare(text, at, ascii, freeUnits, lastEventId, onEvent);
      at = readNamed(text, named, ascii);
      if (at === named) return at;
    }
  }

  // Reads one event of an `id`, an `event` and a `data` line, of which the first two may be missing.
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

  // "If the data buffer is an empty string", there is no event, but the id takes effect.
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
    if (dropped !== undefined) {
      const error = Object.assign(dropped, { id });
      dropped = undefined;
      droppedUnits = 0;
      onTooLarge?.(error);
    } else if (text !== undefined) onEvent({ event, data: text, id, lastEventId });
    else if (id !== undefined) onId?.(id);
  }

  // A slice of a string keeps the whole chunk in memory; `join` makes a copy.
  function setAside(lines: string): void {
    earlier.push([lines, ''].join('\n'));
    data = undefined;
  }

  function takeData(): string {
    const text = earlier.join('');
    earlier = [];
    return data === undefined ? text.slice(0, -1) : text + data;
  }

  // Counts all data of the event at the first call, then only the line that was added.
  function countData(line: string): void {
    if (dataBytes > 0) dataBytes += utf8Length(line) + 1;
    else for (const lines of [...earlier, data ?? '']) dataBytes += utf8Length(lines);
    if (dataBytes > maxEventBytes || dropped !== undefined) drop(line.length + 1, false);
  }

  function hold(piece: string): void {
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
 * @throws {DecodeError} when a line or an event is larger than its limit.
 */
export async function* decode(
  source: DecodeSource,
  options: DecodeOptions = {},
): AsyncGenerator<DecodedEvent, void, undefined> {
  let events: DecodedEvent[] = [];
  const decoder = createDecoder({ ...options, onEvent: (event) => events.push(event) });
  for await (const chunk of chunksOf(source)) {
    decoder.feed(chunk);
    const ready = events;
    events = [];
    yield* ready;
  }
  if (!options.dispatchAtEnd) return;
  decoder.end();
  yield* events;
}

// Reads events of one `data` line and nothing else, as language models send them by the thousand.
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

// Finds the first control character: the end of the line, or one for the slow path, such as NUL in an id.
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

// `charCodeAt` past the end gives NaN, but V8 then drops its fast path for good.
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

// A chunk that ends in an ASCII byte does not end within a character, so it can be decoded by itself: on Node
// 20 that is several times faster for ASCII. Other text is faster with a streaming decoder
// (bench/decode.bench.ts).
interface TextReader {
  /** Whether the last chunk was all ASCII, so that each byte is one unit of the text. */
  ascii: boolean;
  read(bytes: Uint8Array): string;
  /** What an unfinished character at the end becomes. */
  end(): string;
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
    end: () => (withinCharacter ? streaming!.decode() : ''),
  };
  return reader;
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
  if (value === Number.POSITIVE_INFINITY || (Number.isInteger(value) && value >= 1)) return;
  throw new RangeError(`\`${name}\` must be a whole number of bytes ≥ 1, or Infinity, got ${String(value)}`);
}

function tooLarge(isLine: boolean, limit: number): DecodeError {
  const code = isLine ? 'ERR_SSE_LINE_TOO_LONG' : 'ERR_SSE_EVENT_TOO_LARGE';
  const what = isLine ? 'a line of the event stream is longer' : 'the data of an event is larger';
  const error = new Error(`${what} than ${limit} bytes (\`${isLine ? 'maxLineBytes' : 'maxEventBytes'}\`)`);
  return Object.assign(error, { code, limit, id: undefined } as const);
}
