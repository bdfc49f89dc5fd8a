// Generated from lib/decode.ts by `npm run generate`. Do not edit.
const DEFAULT_LIMIT = (1024 + 64) * 1024;
const LF = 10;
const SPACE = 32;
const COLON = 58;
const LETTER_D = 100;
const LETTER_E = 101;
const LETTER_I = 105;
const BYTE_ORDER_MARK = 0xfeff;
const NONE = 2 ** 30 - 1;
export function createDecoder(options) {
    const { onEvent, onRetry, onComment, onId, onTooLarge } = options;
    const { maxLineBytes = DEFAULT_LIMIT, maxEventBytes = DEFAULT_LIMIT } = options;
    checkLimit('maxLineBytes', maxLineBytes);
    checkLimit('maxEventBytes', maxEventBytes);
    const freeLineUnits = Math.floor(maxLineBytes / 3);
    const freeEventUnits = Math.floor(maxEventBytes / 3);
    const freeUnits = Math.min(freeLineUnits, freeEventUnits);
    const reader = createTextReader();
    let failure;
    let begun = false;
    let skipLf = false;
    let pieces = [];
    let pieceUnits = 0;
    let pieceBytes = 0;
    let counted = 0;
    let type = '';
    let data;
    let earlier = [];
    let dataUnits = 0;
    let dataBytes = 0;
    let ownId;
    let lastEventId = options.lastEventId ?? '';
    let dropped;
    let droppedUnits = 0;
    return {
        get lastEventId() {
            return lastEventId;
        },
        feed,
        end: () => feed(`${reader.end()}\n\n`),
    };
    function feed(chunk) {
        if (failure !== undefined)
            throw failure;
        const text = typeof chunk === 'string' ? chunk : reader.read(chunk);
        if (text === '')
            return;
        const ascii = typeof chunk !== 'string' && reader.ascii ? chunk : undefined;
        readFrom(text, skipLeading(text), ascii);
        if (data !== undefined)
            setAside(data);
    }
    function skipLeading(text) {
        if (!begun) {
            begun = true;
            return text.charCodeAt(0) === BYTE_ORDER_MARK ? 1 : 0;
        }
        const start = skipLf && text.charCodeAt(0) === LF ? 1 : 0;
        skipLf = false;
        return start;
    }
    function readFrom(text, start, ascii) {
        const cr = find(text, '\r', start);
        const begin = pieces.length === 0 ? start : endHeldLine(text, start, cr);
        const at = cr === NONE ? readPlain(text, begin, ascii) : readMixed(text, begin, cr);
        if (at < text.length)
            hold(text.slice(at));
    }
    function endHeldLine(text, start, cr) {
        const end = Math.min(find(text, '\n', start), cr);
        hold(end === NONE ? text.slice(start) : text.slice(start, end));
        if (end === NONE)
            return text.length;
        const line = pieceBytes > maxLineBytes ? undefined : pieces.join('');
        pieces = [];
        pieceUnits = pieceBytes = counted = 0;
        if (line !== undefined)
            readLine(line, 0, line.length);
        return end === cr ? stepOverCr(text, end) : end + 1;
    }
    function readPlain(text, start, ascii) {
        let bytes = ascii;
        let at = start;
        for (;;) {
            if (bytes !== undefined && at < bytes.length && bytes[at] >= LETTER_D && isBetweenEvents()) {
                const begin = at;
                at = readFrames(text, begin, bytes);
                if (at === begin)
                    bytes = undefined;
            }
            const end = text.indexOf('\n', at);
            if (end === -1)
                return at;
            if (end === at)
                dispatch();
            else if (end - at > freeUnits)
                readLine(text, at, end);
            else if (data === undefined && isData(text, at)) {
                at = readData(text, at, end);
                continue;
            }
            else if (onComment !== undefined || text.charCodeAt(at) !== COLON)
                readLine(text, at, end);
            at = end + 1;
        }
    }
    function readData(text, start, firstEnd) {
        let lines = text.slice(skipSpace(text, start + 5), firstEnd);
        let at = firstEnd + 1;
        while (isData(text, at)) {
            const end = text.indexOf('\n', at);
            if (end === -1 || end - start > freeUnits)
                break;
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
    function isBetweenEvents() {
        return data === undefined && type === '' && ownId === undefined && earlier.length === 0;
    }
    function readFrames(text, start, ascii) {
        for (let at = start;;) {
            const named = readBare(text, at, ascii, freeUnits, lastEventId, onEvent);
            at = readNamed(text, named, ascii);
            if (at === named)
                return at;
        }
    }
    function readNamed(text, start, ascii) {
        const last = ascii.length - 1;
        let at = start;
        let id;
        let event = '';
        if (at + 6 <= last && isIdAt(ascii, at)) {
            const end = endOfWord(ascii, at + 3);
            if (end > last || ascii[end] !== LF)
                return start;
            id = text.slice(ascii[at + 3] === SPACE ? at + 4 : at + 3, end);
            at = end + 1;
        }
        if (at + 6 <= last && isEventAt(ascii, at)) {
            const end = endOfWord(ascii, at + 6);
            if (end > last || ascii[end] !== LF)
                return start;
            event = text.slice(ascii[at + 6] === SPACE ? at + 7 : at + 6, end);
            at = end + 1;
        }
        if (at + 6 > last || !isDataAt(ascii, at))
            return start;
        const end = text.indexOf('\n', at + 5);
        if (end === -1 || end === last || ascii[end + 1] !== LF || end - start > freeUnits)
            return start;
        const data = text.slice(ascii[at + 5] === SPACE ? at + 6 : at + 5, end);
        if (id !== undefined)
            lastEventId = id;
        onEvent({ event: event === '' ? 'message' : event, data, id, lastEventId });
        return end + 2;
    }
    function readMixed(text, start, firstCr) {
        let at = start;
        let lf = find(text, '\n', at);
        let cr = firstCr < at ? find(text, '\r', at) : firstCr;
        for (let end = Math.min(lf, cr); end !== NONE; end = Math.min(lf, cr)) {
            readLine(text, at, end);
            at = end === lf ? end + 1 : stepOverCr(text, end);
            if (lf < at)
                lf = find(text, '\n', at);
            if (cr < at)
                cr = find(text, '\r', at);
        }
        return at;
    }
    function stepOverCr(text, cr) {
        if (cr + 1 === text.length)
            skipLf = true;
        return is(text, cr + 1, LF) ? cr + 2 : cr + 1;
    }
    function readLine(text, start, end) {
        if (start === end)
            return dispatch();
        if (end - start > freeLineUnits && utf8Length(text.slice(start, end)) > maxLineBytes)
            return drop(end - start, true);
        const first = text.charCodeAt(start);
        if (first === LETTER_D && isData(text, start))
            addData(text.slice(skipSpace(text, start + 5), end));
        else if (first === COLON)
            onComment?.(text.slice(skipSpace(text, start + 1), end));
        else if (first === LETTER_I && isId(text, start))
            setId(text.slice(skipSpace(text, start + 3), end));
        else if (first === LETTER_E && isEvent(text, start))
            type = text.slice(skipSpace(text, start + 6), end);
        else
            readField(text.slice(start, end));
    }
    function readField(line) {
        const colon = line.indexOf(':');
        const name = colon === -1 ? line : line.slice(0, colon);
        const value = colon === -1 ? '' : line.slice(skipSpace(line, colon + 1));
        if (name === 'data')
            addData(value);
        else if (name === 'event')
            type = value;
        else if (name === 'id')
            setId(value);
        else if (name === 'retry' && DIGITS.test(value))
            onRetry?.(Number(value));
    }
    function setId(value) {
        if (value.indexOf('\0') === -1)
            ownId = value;
    }
    function addData(line) {
        data = data === undefined ? line : `${data}\n${line}`;
        dataUnits += line.length + 1;
        if (dataUnits > freeEventUnits)
            countData(line);
    }
    function dispatch() {
        if (data === undefined && ownId === undefined && type === '' && earlier.length === 0)
            return;
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
        }
        else if (text !== undefined)
            onEvent({ event, data: text, id, lastEventId });
        else if (id !== undefined)
            onId?.(id);
    }
    function setAside(lines) {
        earlier.push([lines, ''].join('\n'));
        data = undefined;
    }
    function takeData() {
        const text = earlier.join('');
        earlier = [];
        return data === undefined ? text.slice(0, -1) : text + data;
    }
    function countData(line) {
        if (dataBytes > 0)
            dataBytes += utf8Length(line) + 1;
        else
            for (const lines of [...earlier, data ?? ''])
                dataBytes += utf8Length(lines);
        if (dataBytes > maxEventBytes || dropped !== undefined)
            drop(line.length + 1, false);
    }
    function hold(piece) {
        pieces.push(piece);
        pieceUnits += piece.length;
        if (pieceUnits <= freeLineUnits)
            return;
        while (counted < pieces.length)
            pieceBytes += utf8Length(pieces[counted++]);
        if (pieceBytes <= maxLineBytes)
            return;
        drop(dropped === undefined ? pieceUnits : piece.length, true);
        pieces = [''];
        counted = 1;
    }
    function drop(units, isLine) {
        dropped ??= tooLarge(isLine, isLine ? maxLineBytes : maxEventBytes);
        droppedUnits += units;
        data = undefined;
        earlier = [''];
        dataUnits = freeEventUnits + 1;
        if (onTooLarge !== undefined && droppedUnits <= 16 * DEFAULT_LIMIT)
            return;
        pieces = earlier = [];
        failure = Object.assign(dropped, { id: ownId });
        throw failure;
    }
}
export async function* decode(source, options = {}) {
    let events = [];
    const decoder = createDecoder({ ...options, onEvent: (event) => events.push(event) });
    for await (const chunk of chunksOf(source)) {
        decoder.feed(chunk);
        const ready = events;
        events = [];
        yield* ready;
    }
    if (!options.dispatchAtEnd)
        return;
    decoder.end();
    yield* events;
}
function readBare(text, start, ascii, freeUnits, lastEventId, onEvent) {
    const last = ascii.length - 1;
    let at = start;
    while (at + 6 <= last && isDataAt(ascii, at)) {
        const end = text.indexOf('\n', at + 5);
        if (end === -1 || end === last || ascii[end + 1] !== LF || end - at > freeUnits)
            break;
        const data = text.slice(ascii[at + 5] === SPACE ? at + 6 : at + 5, end);
        onEvent({ event: 'message', data, id: undefined, lastEventId });
        at = end + 2;
    }
    return at;
}
function isDataAt(ascii, at) {
    return (ascii[at] === LETTER_D &&
        ascii[at + 1] === 97 &&
        ascii[at + 2] === 116 &&
        ascii[at + 3] === 97 &&
        ascii[at + 4] === COLON);
}
function isIdAt(ascii, at) {
    return ascii[at] === LETTER_I && ascii[at + 1] === LETTER_D && ascii[at + 2] === COLON;
}
function isEventAt(ascii, at) {
    return (ascii[at] === LETTER_E &&
        ascii[at + 1] === 118 &&
        ascii[at + 2] === LETTER_E &&
        ascii[at + 3] === 110 &&
        ascii[at + 4] === 116 &&
        ascii[at + 5] === COLON);
}
function endOfWord(ascii, from) {
    let at = from;
    while (at < ascii.length && ascii[at] >= SPACE)
        at++;
    return at;
}
const DIGITS = /^[0-9]+$/;
function find(text, lineEnd, from) {
    const at = text.indexOf(lineEnd, from);
    return at === -1 ? NONE : at;
}
function is(text, at, code) {
    return at < text.length && text.charCodeAt(at) === code;
}
function isData(text, at) {
    return (at + 4 < text.length &&
        text.charCodeAt(at) === LETTER_D &&
        text.charCodeAt(at + 1) === 97 &&
        text.charCodeAt(at + 2) === 116 &&
        text.charCodeAt(at + 3) === 97 &&
        text.charCodeAt(at + 4) === COLON);
}
function isId(text, at) {
    return is(text, at + 1, LETTER_D) && is(text, at + 2, COLON);
}
function isEvent(text, at) {
    return (at + 5 < text.length &&
        text.charCodeAt(at + 1) === 118 &&
        text.charCodeAt(at + 2) === LETTER_E &&
        text.charCodeAt(at + 3) === 110 &&
        text.charCodeAt(at + 4) === 116 &&
        text.charCodeAt(at + 5) === COLON);
}
function skipSpace(text, at) {
    return is(text, at, SPACE) ? at + 1 : at;
}
function utf8Length(text) {
    let bytes = text.length;
    for (let i = 0; i < text.length; i++) {
        const unit = text.charCodeAt(i);
        if (unit < 0x80)
            continue;
        bytes += unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 1 : 2;
    }
    return bytes;
}
function createTextReader() {
    const whole = new TextDecoder('utf-8', { ignoreBOM: true });
    let streaming;
    let withinCharacter = false;
    let wide = false;
    const reader = {
        ascii: false,
        read(bytes) {
            if (bytes.length === 0)
                return '';
            const asWhole = !wide && !withinCharacter && bytes[bytes.length - 1] < 0x80;
            streaming ??= asWhole ? undefined : new TextDecoder('utf-8', { ignoreBOM: true });
            const text = asWhole ? whole.decode(bytes) : streaming.decode(bytes, { stream: true });
            withinCharacter = bytes[bytes.length - 1] >= 0x80;
            wide = text.length !== bytes.length;
            reader.ascii = asWhole && !wide;
            return text;
        },
        end: () => (withinCharacter ? streaming.decode() : ''),
    };
    return reader;
}
async function* chunksOf(source) {
    if (Symbol.asyncIterator in source || Symbol.iterator in source)
        return yield* source;
    const reader = source.getReader();
    try {
        for (let next = await reader.read(); !next.done; next = await reader.read())
            yield next.value;
    }
    finally {
        await reader.cancel();
    }
}
function checkLimit(name, value) {
    if (value === Number.POSITIVE_INFINITY || (Number.isInteger(value) && value >= 1))
        return;
    throw new RangeError(`\`${name}\` must be a whole number of bytes ≥ 1, or Infinity, got ${String(value)}`);
}
function tooLarge(isLine, limit) {
    const code = isLine ? 'ERR_SSE_LINE_TOO_LONG' : 'ERR_SSE_EVENT_TOO_LARGE';
    const what = isLine ? 'a line of the event stream is longer' : 'the data of an event is larger';
    const error = new Error(`${what} than ${limit} bytes (\`${isLine ? 'maxLineBytes' : 'maxEventBytes'}\`)`);
    return Object.assign(error, { code, limit, id: undefined });
}
