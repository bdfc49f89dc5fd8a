// Generated from lib/decode.ts by `npm run generate`. Do not edit.
import { copyOf, createTextReader, endOfWord, is, isBlank, isData, isDataAt, isEvent, isEventAt, isId, isIdAt, joinPieces, readShort, SHORT, skipSpace, utf8Length, } from './decode-bytes.js';
const DEFAULT_LIMIT = (1024 + 64) * 1024;
const LF = 10;
const SPACE = 32;
const COLON = 58;
const LETTER_D = 100;
const LETTER_E = 101;
const LETTER_I = 105;
const BYTE_ORDER_MARK = 0xfeff;
const NONE = 2 ** 30 - 1;
const LONG = 512;
const MOST_CUT = 4096;
export function createDecoder(options) {
    const { onEvent, onRetry, onComment, onId, onTooLarge } = options;
    const { maxLineBytes = DEFAULT_LIMIT, maxEventBytes = DEFAULT_LIMIT } = options;
    checkLimit('maxLineBytes', maxLineBytes);
    checkLimit('maxEventBytes', maxEventBytes);
    const freeLineUnits = Math.floor(maxLineBytes / 3);
    const freeEventUnits = Math.floor(maxEventBytes / 3);
    const freeUnits = Math.min(freeLineUnits, freeEventUnits);
    const mostCut = Math.min(MOST_CUT, freeUnits);
    const reader = createTextReader();
    let failure;
    let begun = false;
    let skipLf = false;
    let pieces = [];
    let pieceUnits = 0;
    let pieceBytes = 0;
    let counted = 0;
    let joined = 0;
    let type = '';
    let data;
    let earlier = [];
    let joinedEarlier = 0;
    let dataUnits = 0;
    let dataBytes = 0;
    let ownId;
    let lastEventId = options.lastEventId ?? '';
    let cutEvent = '';
    let stoppedAt = 0;
    let isCut = false;
    let lastSize = 0;
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
        readChunk(text, chunk);
        if (text.length > MOST_CUT)
            letGo(text);
    }
    function readChunk(text, chunk) {
        let at = skipLeading(text);
        const cr = find(text, '\r', at);
        if (cutEvent !== '')
            at = endCutEvent(text, at, cr);
        else if (pieces.length > 0)
            at = endHeldLine(text, at, cr);
        if (at === text.length)
            return;
        if (cr !== NONE)
            readFrom(text, at, cr, undefined);
        else if (typeof chunk !== 'string')
            readFrom(text, at, cr, reader.ascii ? chunk : undefined);
        else if (lastSize >= LONG)
            readFrom(text, at, cr, undefined);
        else
            reader.withBytes(text, (ascii) => readFrom(text, at, cr, ascii));
    }
    function letGo(text) {
        lastEventId = copyOf(lastEventId);
        type = copyOf(type);
        cutEvent = copyOf(cutEvent);
        if (ownId !== undefined)
            ownId = copyOf(ownId);
        const piece = pieces.at(-1);
        if (piece !== undefined && piece.length < text.length / 2)
            pieces[pieces.length - 1] = copyOf(piece);
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
    function readFrom(text, start, firstCr, bytes) {
        let cr = firstCr;
        let lf = -1;
        stoppedAt = -1;
        for (let at = start; at < text.length;) {
            if (cr < at)
                cr = find(text, '\r', at);
            if (cr !== NONE && lf < at)
                lf = find(text, '\n', at);
            const endsInLf = cr === NONE || lf <= cr + 1;
            if (endsInLf && at > stoppedAt && isBetweenEvents()) {
                at = bytes === undefined ? readText(text, at, cr) : readBytes(text, at, bytes);
                if (at === text.length)
                    return;
                if (isCut && at > 0 && text.length - at <= mostCut) {
                    cutEvent = text.slice(at);
                    return;
                }
                if (isCut && at === stoppedAt)
                    return hold(text.slice(at));
            }
            if (cr < at)
                cr = find(text, '\r', at);
            if (lf < at)
                lf = find(text, '\n', at);
            const end = Math.min(lf, cr);
            if (end === NONE) {
                hold(text.slice(at));
                break;
            }
            readLine(text, at, end);
            at = end === lf ? end + 1 : stepOverCr(text, end);
        }
        if (data !== undefined)
            setAside(data);
    }
    function isBetweenEvents() {
        return data === undefined && type === '' && ownId === undefined && earlier.length === 0;
    }
    function endCutEvent(text, start, cr) {
        const begin = cutEvent;
        cutEvent = '';
        let end = text.indexOf('\n', start) + 1;
        while (end > 0 && end < text.length && !isBlank(text, end))
            end = text.indexOf('\n', end) + 1;
        if (end === 0) {
            readFrom(begin, 0, find(begin, '\r', 0), undefined);
            return endHeldLine(text, start, cr);
        }
        if (end < text.length)
            end = text.indexOf('\n', end) + 1;
        const whole = begin + text.slice(start, end);
        readFrom(whole, 0, find(whole, '\r', 0), undefined);
        return end;
    }
    function endHeldLine(text, start, cr) {
        const end = Math.min(find(text, '\n', start), cr);
        hold(end === NONE ? text.slice(start) : text.slice(start, end));
        if (end === NONE)
            return text.length;
        const line = pieceBytes > maxLineBytes ? undefined : pieces.join('');
        pieces = [];
        pieceUnits = pieceBytes = counted = joined = 0;
        if (line !== undefined) {
            lastSize = line.length;
            readLine(line, 0, lastSize);
        }
        return end === cr ? stepOverCr(text, end) : end + 1;
    }
    function readText(text, start, firstCr) {
        let cr = firstCr;
        let begin = start;
        let at = start;
        let id;
        let event = '';
        let lines;
        isCut = false;
        for (;;) {
            const lf = text.indexOf('\n', at);
            let end = lf;
            if (cr <= lf) {
                if (cr !== lf - 1)
                    break;
                end = cr;
                cr = find(text, '\r', lf);
            }
            if (lf === -1) {
                isCut = cr === NONE;
                break;
            }
            if (lf - begin > freeUnits)
                break;
            const first = end === at ? LF : text.charCodeAt(at);
            if (first === LETTER_D && isData(text, at)) {
                const line = text.slice(skipSpace(text, at + 5), end);
                lines = lines === undefined ? line : `${lines}\n${line}`;
                at = lf + 1;
                if (!is(text, at, LF))
                    continue;
            }
            else if (first === LETTER_I && isId(text, at)) {
                id = text.slice(skipSpace(text, at + 3), end);
                if (id.indexOf('\0') !== -1)
                    break;
                at = lf + 1;
                continue;
            }
            else if (first === LETTER_E && isEvent(text, at)) {
                event = text.slice(skipSpace(text, at + 6), end);
                at = lf + 1;
                continue;
            }
            else if (first === COLON && onComment === undefined) {
                at = lf + 1;
                continue;
            }
            else if (first === LF)
                at = lf;
            else
                break;
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
    function readBytes(text, start, bytes) {
        const last = bytes.length - 1;
        let at = lastSize < SHORT ? readShort(text, start, bytes, freeUnits, lastEventId, onEvent) : start;
        let begin = at;
        let end = 0;
        let id;
        let event = '';
        let lines;
        for (;;) {
            if (at - begin > freeUnits)
                break;
            if (at + 6 > last)
                return readText(text, begin, NONE);
            const first = bytes[at];
            if (first === LETTER_D) {
                if (!isDataAt(bytes, at))
                    break;
                const from = bytes[at + 5] === SPACE ? at + 6 : at + 5;
                end = text.indexOf('\n', from);
                if (end === -1 || end - begin > freeUnits)
                    break;
                const line = text.slice(from, end);
                lines = lines === undefined ? line : `${lines}\n${line}`;
                at = end + 1;
                if (at > last || bytes[at] !== LF)
                    continue;
            }
            else if (first === LETTER_I) {
                if (!isIdAt(bytes, at))
                    break;
                end = endOfWord(bytes, at + 3);
                if (end > last || bytes[end] !== LF)
                    break;
                id = text.slice(bytes[at + 3] === SPACE ? at + 4 : at + 3, end);
                at = end + 1;
                continue;
            }
            else if (first === LETTER_E) {
                if (!isEventAt(bytes, at))
                    break;
                end = endOfWord(bytes, at + 6);
                if (end > last || bytes[end] !== LF)
                    break;
                event = text.slice(bytes[at + 6] === SPACE ? at + 7 : at + 6, end);
                at = end + 1;
                continue;
            }
            else if (first === COLON && onComment === undefined) {
                end = text.indexOf('\n', at);
                if (end === -1)
                    break;
                at = end + 1;
                continue;
            }
            else if (first !== LF)
                break;
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
    function take(event, text, id) {
        if (id !== undefined)
            lastEventId = id;
        if (text !== undefined)
            onEvent({ event: event === '' ? 'message' : event, data: text, id, lastEventId });
        else if (id !== undefined)
            onId?.(id);
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
        if (isBetweenEvents())
            return;
        const event = type;
        const text = earlier.length === 0 ? data : takeData();
        const id = ownId;
        const error = dropped;
        type = '';
        data = ownId = dropped = undefined;
        dataUnits = dataBytes = droppedUnits = 0;
        if (error === undefined)
            return take(event, text, id);
        if (id !== undefined)
            lastEventId = id;
        onTooLarge?.(Object.assign(error, { id }));
    }
    function setAside(lines) {
        joinedEarlier = joinPieces(earlier, joinedEarlier);
        earlier.push([lines, ''].join('\n'));
        data = undefined;
    }
    function takeData() {
        const text = earlier.join('');
        earlier = [];
        joinedEarlier = 0;
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
        joined = joinPieces(pieces, joined);
        counted = Math.min(counted, pieces.length);
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
    const events = [];
    const decoder = createDecoder({ ...options, onEvent: (event) => events.push(event) });
    for await (const chunk of chunksOf(source)) {
        try {
            decoder.feed(chunk);
        }
        finally {
            yield* events.splice(0);
        }
    }
    if (options.dispatchAtEnd)
        decoder.end();
    yield* events;
}
const DIGITS = /^[0-9]+$/;
function find(text, lineEnd, from) {
    const at = text.indexOf(lineEnd, from);
    return at === -1 ? NONE : at;
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
    if (value === Infinity || (Number.isInteger(value) && value >= 1))
        return;
    throw new RangeError(`\`${name}\` must be a whole number of bytes ≥ 1, or Infinity, got ${String(value)}`);
}
function tooLarge(isLine, limit) {
    const [code, what, option] = isLine
        ? ['ERR_SSE_LINE_TOO_LONG', 'a line of the event stream is longer', 'maxLineBytes']
        : ['ERR_SSE_EVENT_TOO_LARGE', 'the data of an event is larger', 'maxEventBytes'];
    const error = new Error(`${what} than ${limit} bytes (\`${option}\`)`);
    return Object.assign(error, { code, limit, id: undefined });
}
