// Generated from lib/decode-bytes.ts by `npm run generate`. Do not edit.
const LF = 10;
const CR = 13;
const SPACE = 32;
const COLON = 58;
const LETTER_D = 100;
const LETTER_E = 101;
const DATA = 0x61746164;
const FOUR_LFS = 0x0a0a0a0a;
export const SHORT = 56;
const encoder = new TextEncoder();
const MOST_ENCODED = 65_536;
let spare;
export function createTextReader() {
    const whole = new TextDecoder('utf-8', { ignoreBOM: true });
    let streaming;
    let withinCharacter = false;
    let skips = 0;
    const reader = {
        ascii: false,
        read(bytes) {
            if (bytes.length === 0)
                return '';
            const endsInAscii = bytes[bytes.length - 1] < 0x80;
            const asWhole = !withinCharacter && endsInAscii;
            streaming ??= asWhole ? undefined : new TextDecoder('utf-8', { ignoreBOM: true });
            const text = asWhole ? whole.decode(bytes) : streaming.decode(bytes, { stream: true });
            withinCharacter = !endsInAscii;
            reader.ascii = asWhole && text.length === bytes.length;
            return text;
        },
        withBytes(text, use) {
            if (text.length < 256 || text.length > MOST_ENCODED)
                return use(undefined);
            if (skips > 0) {
                skips--;
                return use(undefined);
            }
            const bytes = spare ?? new Uint8Array(MOST_ENCODED);
            spare = undefined;
            const { read, written } = encoder.encodeInto(text, bytes);
            const isAscii = read === text.length && written === read;
            if (!isAscii)
                skips = 64;
            use(isAscii ? bytes.subarray(0, read) : undefined);
            spare = bytes;
        },
        end: () => streaming?.decode() ?? '',
    };
    return reader;
}
export function readShort(text, start, bytes, freeUnits, lastEventId, onEvent) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const last = bytes.length - 1;
    let at = start;
    while (at + 6 <= last && view.getInt32(at, true) === DATA && bytes[at + 4] === COLON) {
        const from = bytes[at + 5] === SPACE ? at + 6 : at + 5;
        const limit = Math.min(from + SHORT, last - 3);
        let end = from;
        for (; end <= limit; end += 4) {
            const word = view.getInt32(end, true) ^ FOUR_LFS;
            if (((word - 0x01010101) & ~word & 0x80808080) !== 0)
                break;
        }
        if (end > from + SHORT)
            break;
        while (end < last && bytes[end] !== LF)
            end++;
        if (end === last || bytes[end + 1] !== LF || end - at > freeUnits)
            break;
        onEvent({ event: 'message', data: text.slice(from, end), id: undefined, lastEventId });
        at = end + 2;
    }
    return at;
}
export function isDataAt(ascii, at) {
    return ascii[at + 1] === 97 && ascii[at + 2] === 116 && ascii[at + 3] === 97 && ascii[at + 4] === COLON;
}
export function isIdAt(ascii, at) {
    return ascii[at + 1] === LETTER_D && ascii[at + 2] === COLON;
}
export function isEventAt(ascii, at) {
    return (ascii[at + 1] === 118 &&
        ascii[at + 2] === LETTER_E &&
        ascii[at + 3] === 110 &&
        ascii[at + 4] === 116 &&
        ascii[at + 5] === COLON);
}
export function endOfWord(ascii, from) {
    let at = from;
    while (at < ascii.length && ascii[at] >= SPACE)
        at++;
    return at;
}
export function is(text, at, code) {
    return at < text.length && text.charCodeAt(at) === code;
}
export function isData(text, at) {
    return (at + 4 < text.length &&
        text.charCodeAt(at + 1) === 97 &&
        text.charCodeAt(at + 2) === 116 &&
        text.charCodeAt(at + 3) === 97 &&
        text.charCodeAt(at + 4) === COLON);
}
export function isId(text, at) {
    return is(text, at + 1, LETTER_D) && is(text, at + 2, COLON);
}
export function isEvent(text, at) {
    return (at + 5 < text.length &&
        text.charCodeAt(at + 1) === 118 &&
        text.charCodeAt(at + 2) === LETTER_E &&
        text.charCodeAt(at + 3) === 110 &&
        text.charCodeAt(at + 4) === 116 &&
        text.charCodeAt(at + 5) === COLON);
}
export function isBlank(text, at) {
    return is(text, at, LF) || (is(text, at, CR) && is(text, at + 1, LF));
}
export function skipSpace(text, at) {
    return is(text, at, SPACE) ? at + 1 : at;
}
export function copyOf(text) {
    return [text, ''].join('\n').slice(0, -1);
}
export function joinPieces(pieces, joined) {
    if (pieces.length - joined < 1024)
        return joined;
    pieces.push(pieces.splice(joined).join(''));
    return joined + 1;
}
export function utf8Length(text) {
    let bytes = text.length;
    for (let i = 0; i < text.length; i++) {
        const unit = text.charCodeAt(i);
        if (unit < 0x80)
            continue;
        bytes += unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 1 : 2;
    }
    return bytes;
}
