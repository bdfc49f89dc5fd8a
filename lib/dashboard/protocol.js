// Generated from lib/protocol.ts by `npm run generate`. Do not edit.
export function formatId(epoch, seq) {
    return `${epoch}-${seq}`;
}
export function parseId(text) {
    const [, epochDigits, seqDigits] = ID.exec(text ?? '') ?? [];
    if (epochDigits === undefined)
        return undefined;
    const [epoch, seq] = [Number(epochDigits), Number(seqDigits)];
    return Number.isSafeInteger(epoch) && Number.isSafeInteger(seq) ? { epoch, seq } : undefined;
}
const ID = /^(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})$/;
export function compareIds(a, b) {
    const [one, other] = [parseId(a), parseId(b)];
    return one !== undefined && one.epoch === other?.epoch ? one.seq - other.seq : undefined;
}
export const unreadableId = '0-0';
export const maxIdBytes = 1024;
export function isSendableId(id) {
    if (typeof id !== 'string' || id.length > maxIdBytes || UNSENDABLE.test(id))
        return false;
    return id.length <= maxIdBytes / 3 || new TextEncoder().encode(id).length <= maxIdBytes;
}
const UNSENDABLE = /[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]/u;
export const controlEvents = {
    ready: 'sluice:ready',
    gap: 'sluice:gap',
    position: 'sluice:position',
    end: 'sluice:end',
    error: 'sluice:error',
    refused: 'sluice:refused',
};
export const controlPrefix = 'sluice:';
export function isControlEvent(type) {
    return type?.startsWith(controlPrefix) === true;
}
export function isReservedEvent(type) {
    return isControlEvent(type?.trim().toLowerCase());
}
export const gapReasons = [
    'evicted',
    'unknown-epoch',
    'ahead',
    'truncated',
    'store-changed',
    'malformed',
];
export function sentControl(event, controls) {
    if (controls === undefined || controls === 'events')
        return event;
    checkControls(controls);
    const { id, retry } = event;
    const standIn = controls === 'comments' ? null : controls(event);
    if (standIn === null)
        return { comment: `${event.event} ${event.data}`, retry, id };
    const { event: type, data } = standIn;
    return data === undefined
        ? { retry, id, event: type, json: standIn.json }
        : { retry, id, event: type, data };
}
export function checkControls(controls) {
    if (controls === undefined || controls === 'events' || controls === 'comments')
        return;
    if (typeof controls === 'function')
        return;
    throw new TypeError(`\`controls\` must be "events", "comments" or a function, got ${String(controls)}`);
}
export function readyEvent(id, topics, extra) {
    return { id, event: controlEvents.ready, data: JSON.stringify({ ...extra, topics }) };
}
export function gapEvent(id, { reason, from, to, topics }) {
    return { id, event: controlEvents.gap, data: JSON.stringify({ reason, from, to, topics }) };
}
export function positionEvent(id) {
    return { id, event: controlEvents.position, data: '{}' };
}
export function endEvent(id, topics) {
    return { id, event: controlEvents.end, data: JSON.stringify({ topics }) };
}
export function refusedEvent(retry, { error, message }) {
    return { retry, event: controlEvents.refused, data: JSON.stringify({ error, message }) };
}
export function readReady(data) {
    const { topics, heartbeat } = parseObject(data);
    const { interval, missed } = Object(heartbeat);
    const isPromised = isDuration(interval) && isDuration(missed);
    return { topics: strings(topics), heartbeat: isPromised ? { interval, missed } : undefined };
}
export function readGap(data, id) {
    const { reason, from, to, topics } = parseObject(data);
    return {
        reason: typeof reason === 'string' ? reason : 'unknown',
        from: typeof from === 'string' ? from : null,
        to: typeof to === 'string' ? to : id,
        topics: strings(topics),
    };
}
export function readRefused(data) {
    const { error, message } = parseObject(data);
    return {
        error: typeof error === 'string' ? error : 'unknown',
        message: typeof message === 'string' ? message : '',
    };
}
function parseObject(json) {
    try {
        return Object(JSON.parse(json));
    }
    catch {
        return {};
    }
}
function isDuration(value) {
    return typeof value === 'number' && value >= 0;
}
function strings(value) {
    return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
}
export const topicRule = '1 to 200 characters of A–Z a–z 0–9 . _ ~ : -';
export function isTopic(name) {
    return typeof name === 'string' && TOPIC.test(name);
}
const TOPIC = /^[A-Za-z0-9._~:-]{1,200}$/;
