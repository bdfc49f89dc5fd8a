// Faults in what reads a stream: client, decode, backoff, positions, protocol.

import { type Mutant, mutantsOf } from '../mutant.ts';

const READING_A_HUB = { in: 'client', only: 'reading a hub' };
const POSITION = {
  in: 'client',
  only: 'is that of the last event processed|the current event once|in force after',
};
const CALLBACKS = 'client.callbacks';
const BYTES = { in: 'decode', only: 'takes |ignores |skips |two, three |onRetry' };

export const reader: readonly Mutant[] = [
  ...mutantsOf(
    'connect-options.ts',
    [{ in: 'client', only: 'one heartbeat more' }],
    [
      {
        find: 'heartbeat.interval * (heartbeat.missed + 1)',
        replace: 'heartbeat.interval * heartbeat.missed',
        why: 'the watchdog gives connections up one heartbeat early',
      },
    ],
  ),
  ...mutantsOf(
    'client.ts',
    [READING_A_HUB],
    [
      {
        find: 'id.seq <= newest.seq',
        replace: 'id.seq < newest.seq',
        why: 'the last event arrives twice when a server repeats it',
      },
      {
        find: 'this.#newest = parseId(id) ?? this.#newest;',
        replace: '',
        why: 'events that come again after a gap that leads back are dropped as repetitions',
      },
      {
        find: 'this.#yieldedPosition = item.lastEventId;',
        replace: 'this.#moveTo(item.lastEventId);',
        why: 'an event that was being processed when its process was killed is lost',
        race: 'client that persists its id too early',
        tests: [POSITION],
      },
      {
        find: 'maxEventBytes, lastEventId: this.#position }',
        replace: 'maxEventBytes }',
        why: 'a new connection forgets the position, and its first event without an id takes it back to the beginning',
        tests: [POSITION],
      },
      {
        find: 'item.event === controlEvents.end || (mayBeLast',
        replace: '(mayBeLast',
        why: 'a client asks again and again for a topic that has ended',
      },
      {
        find: 'const mayBeLast = isWanted && ',
        replace: 'const mayBeLast = ',
        why: 'an event that the loop never gets ends it',
        tests: [CALLBACKS],
      },
      {
        find: 'if (onGap) await this',
        replace: 'if (onGap) void this',
        why: 'newer events are processed while the application still loads a snapshot for a gap',
      },
      {
        find: 'this.#beforeClose(() => onGap(',
        replace: 'this.#beforeInterrupt(() => onGap(',
        why: 'newer events are processed before a gap where the connection is told to reconnect meanwhile',
        tests: [CALLBACKS],
      },
      {
        find: 'if (this.#closing) return;',
        replace: '',
        why: 'a gap counts as processed although the connection was closed before the application had done so',
        tests: [CALLBACKS],
      },
      {
        find: 'if (!isDecodeError(error)) throw error;',
        replace: 'if (!isDecodeError(error)) return failureOf(error, controller.signal);',
        why: 'a fault of the application is taken for a lost connection, again and again',
        tests: [CALLBACKS],
      },
      {
        find: 'if (item.id) this.#idOrigins',
        replace: "if (item.id !== '') this.#idOrigins",
        why: 'a redirect takes an id to an origin that has sent none',
        tests: [{ in: 'client', only: 'takes no id to an origin' }],
      },
      {
        find: "this.#lost = { reason: 'unsendable', from: position };",
        replace: '',
        why: 'events are lost in silence where a server does not take the position',
        property: 'no hole unsaid',
        tests: [{ in: 'client.hostile', only: 'place|position' }],
      },
      {
        find: 'if (!isSendableId(position)) {',
        replace: 'if (false) {',
        why: 'an id that no header can carry becomes the position, and no request succeeds again',
        tests: [{ in: 'client.hostile', only: 'position' }],
      },
      {
        find: "outcome !== 'over' && outcome.code === 'ERR_SSE_EOF'",
        replace: 'false',
        why: 'streams that a server ends in good order are waited for longer each time',
        tests: [{ in: 'client', only: 'before it reconnects' }],
      },
      {
        find: 'if (isWanted && !isControl) this.#hasDelivered = true;',
        replace: '',
        why: 'a connection that has delivered counts as a failure',
        tests: [{ in: 'client', only: 'before it reconnects' }],
      },
      {
        find: 'nextDelay(this.#serverRetry, failure.retryDelay)',
        replace: 'nextDelay(this.#serverRetry)',
        why: 'a client comes back before the time that `Retry-After` states',
        tests: [{ in: 'client', only: 'Retry-After' }],
      },
      {
        find: 'return this.#mayRepeat || isRepeatable(method) ?',
        replace: 'return true ?',
        why: 'a request that must be sent once, and costs money, is sent again after a failure',
        tests: [{ in: 'client.attempts', only: 'POST' }],
      },
      {
        find: 'if (this.#closing || this.#reconnecting) return;',
        replace: 'if (this.#closing) return;',
        why: 'a tab that wakes up while its wait begins waits on',
        tests: [{ in: 'client.attempts', only: 'every change of state' }],
      },
      {
        find: 'else if (relay && isControl && item.id !== undefined)',
        replace: 'else if (false)',
        why: 'a client of a relay does not learn the position before the first event, and loses events in silence',
        tests: [{ in: 'client.relay', only: 'control events' }],
      },
      {
        find: "if (this.#position === '') this.#lost =",
        replace: 'if (false) this.#lost =',
        why: 'events are lost in silence where the stored position cannot be sent',
        property: 'no hole unsaid',
        tests: [{ in: 'client.hostile', only: 'stored' }],
      },
    ],
  ),
  ...mutantsOf(
    'waits.ts',
    ['waits'],
    [
      {
        find: 'performance.now() - due < LATE',
        replace: 'true',
        why: 'a process that was blocked takes its servers for silent',
      },
      {
        find: 'acts.delete(call) && acts.size === 0',
        replace: 'acts.delete(call)',
        why: 'a connection that ends takes the signal away from the others that share it',
      },
    ],
  ),
  ...mutantsOf(
    'connect-options.ts',
    ['client.attempts'],
    [
      {
        find: 'checkHeaders(common);',
        replace: '',
        why: 'the headers that a function returns as a `Headers` are left out in silence',
      },
    ],
  ),
  ...mutantsOf(
    'request.ts',
    [{ in: 'client', only: 'password' }],
    [
      {
        find: 'return isSameUser;',
        replace: 'return true;',
        why: 'a server chooses the user in whose name its reader comes back',
      },
    ],
  ),
  ...mutantsOf(
    'positions.ts',
    ['positions'],
    [
      {
        find: '(turns.get(file) ?? Promise.resolve()).then(act, act);',
        replace: 'act();',
        why: 'readers of one process that store their positions in one file lose each other’s',
      },
      {
        find: 'while (this.#unsaved !== undefined) {',
        replace: 'if (this.#unsaved !== undefined) {',
        why: 'the newest position is not stored where it comes during a write',
      },
      {
        find: '{ mode: 0o600 }',
        replace: '{ mode: 0o644 }',
        why: 'anybody on the machine can read the secrets in the URLs of stored positions',
      },
    ],
  ),
  ...mutantsOf(
    'decode-bytes.ts',
    [{ in: 'decode', only: 'as soon as it is there' }],
    [
      {
        find: 'if (pieces.length - joined < 1024) return joined;',
        replace: 'if (pieces.length >= 0) return joined;',
        why: 'an unfinished line of a megabyte holds twenty where it arrives in chunks of two bytes',
        tests: [{ in: 'decode', only: 'holds little more' }],
      },
      {
        find: ' || (unit >= 0xd800 && unit <= 0xdfff)',
        replace: '',
        why: 'text with emoji is refused below its limit',
        tests: [{ in: 'decode', only: 'accept a line' }],
      },
      {
        find: 'withinCharacter = !endsInAscii;',
        replace: 'withinCharacter = false;',
        why: 'bytes that are not UTF-8 are read in another way where they are cut',
        tests: [{ in: 'decode', only: 'reads any bytes' }],
      },
      {
        find: 'read === text.length && written === read',
        replace: 'read === text.length',
        why: 'text with other characters than ASCII is cut at the wrong places',
        tests: [{ in: 'decode', only: 'not of ASCII' }],
      },
      {
        find: 'spare = undefined;',
        replace: '',
        why: 'a decoder reads the bytes that its handler gave to another one',
        tests: [{ in: 'decode', only: 'feeds to another decoder' }],
      },
      {
        find: 'bytes[end + 1] !== LF || end - at > freeUnits',
        replace: 'end - at > freeUnits',
        why: 'the second line of an event becomes an event of its own',
      },
      {
        find: 'text.length === bytes.length;',
        replace: 'true;',
        why: 'an event behind a character of several bytes is cut at the wrong places',
      },
    ],
  ),
  ...mutantsOf(
    'decode.ts',
    [BYTES],
    [
      {
        find: 'BYTE_ORDER_MARK ? 1 : 0',
        replace: 'BYTE_ORDER_MARK ? 0 : 0',
        why: 'the first field of a stream with a byte order mark is lost',
      },
      {
        find: 'if (cr + 1 === text.length) skipLf = true;',
        replace: '',
        why: 'an event is cut in two where a chunk ends between CR and LF',
      },
      {
        find: "if (value.indexOf('\\0') === -1) ownId = value;",
        replace: 'ownId = value;',
        why: 'an id with a NUL becomes the position, and cannot be sent',
      },
      {
        find: '=== -1) ownId = value;',
        replace: '=== -1) ownId = lastEventId = value;',
        why: 'the id of an event that was cut off becomes the position: the event is lost',
        race: 'cut inside a frame',
        tests: [{ in: 'decode', only: 'as soon as it is there' }],
      },
      {
        find: "name === 'retry' && DIGITS.test(value)",
        replace: "name === 'retry'",
        why: 'a malformed `retry` makes a client reconnect at once',
      },
      {
        find: 'Math.min(MOST_CUT, freeUnits)',
        replace: 'MOST_CUT',
        why: 'a line that is too long is held, and refused a chunk late',
        tests: [{ in: 'decode', only: 'at its first chunk' }],
      },
      {
        find: 'isCut = cr === NONE;',
        replace: 'isCut = true;',
        why: 'an event of a stream whose lines end in CR is held until the next one',
        tests: [{ in: 'decode', only: 'as soon as it is there' }],
      },
      {
        find: 'if (endsInLf && at > stoppedAt && isBetweenEvents()) {',
        replace: 'if (endsInLf && isBetweenEvents()) {',
        why: 'a chunk of lines that are no event takes time by the square of their number',
        tests: [{ in: 'decode', only: 'reads each once: ":.n"' }],
      },
      {
        find: 'const endsInLf = cr === NONE || lf <= cr + 1;',
        replace: 'const endsInLf = true;',
        why: 'a chunk of lines that end in CR takes time by the square of their number',
        tests: [{ in: 'decode', only: 'reads each once: ".r"' }],
      },
      {
        find: "earlier.push([lines, ''].join('\\n'));",
        replace: "earlier.push(lines + '\\n');",
        why: 'a few bytes of an event keep each whole chunk in memory',
        tests: [{ in: 'decode', only: 'does not hold whole chunks' }],
      },
      {
        find: 'if (text.length > MOST_CUT) letGo(text);',
        replace: '',
        why: 'a few bytes that wait for the next chunk keep the whole of this one in memory',
        tests: [{ in: 'decode', only: 'does not hold a whole chunk for' }],
      },
      {
        find: 'dataUnits = dataBytes = droppedUnits = 0;',
        replace: 'dataUnits = droppedUnits = 0;',
        why: 'events count against the limit of the next one',
        tests: [{ in: 'decode', only: 'accept 100 bytes|drops an event' }],
      },
    ],
  ),
  ...mutantsOf(
    'backoff.ts',
    ['backoff'],
    [
      {
        find: 'Math.min(this.#failures++, 64)',
        replace: 'this.#failures++',
        why: 'a client without a random wait comes back without any after 1,024 failures',
      },
      {
        find: ', MAX_DELAY);',
        replace: ', Infinity);',
        why: 'the longest wait becomes the shortest, because no timer can wait for it',
      },
      {
        find: 'this.#failures++',
        replace: 'this.#failures',
        why: 'clients of a server that is down come back as often as ever',
      },
      {
        find: 'Math.max(minRetryDelay, ...asked)',
        replace: 'Math.max(0, ...asked)',
        why: 'a server that sends `retry: 0` gets a flood',
      },
      {
        find: 'isOrderly && age >= MIN_ORDERLY_AGE',
        replace: 'isOrderly',
        why: 'a server that accepts and ends each stream at once gets a flood',
      },
      {
        find: 'Math.random() * bound',
        replace: 'bound',
        why: 'all clients come back at the same moment',
      },
      {
        find: 'if (isHealthy) this.reset();',
        replace: '',
        why: 'clients wait for longer after each connection, however well it went',
      },
    ],
  ),
  ...mutantsOf(
    'protocol.ts',
    ['protocol'],
    [
      {
        find: '/^(0|[1-9][0-9]{0,15})-',
        replace: '/^(0|[1-9][0-9]{0,14})-',
        why: 'the ids of real hubs, whose epochs have 16 digits, are not recognised',
        race: 'unknown, malformed, future, foreign id',
      },
      {
        find: 'one.epoch === other?.epoch ?',
        replace: 'other !== undefined ?',
        why: 'ids of two lives of a hub are compared as if they were of one',
        race: 'restart of a memory log',
      },
      {
        find: "unreadableId = '0-0'",
        replace: "unreadableId = ''",
        why: 'a client whose id cannot be read, and that is cut before its gap, starts anew without one',
        race: 'cut after the gap is written but before it arrives',
        tests: ['protocol', 'hub.subscribe'],
      },
      {
        find: 'isControlEvent(type?.trim().toLowerCase())',
        replace: 'isControlEvent(type)',
        why: 'an application can publish an event that readers take for the end',
      },
      {
        find: 'id.length <= maxIdBytes / 3 ||',
        replace: 'id.length <= maxIdBytes ||',
        why: 'an id of 1,000 characters that are not ASCII becomes the position, and servers answer 431',
      },
      {
        find: "to: typeof to === 'string' ? to : id",
        replace: 'to: id',
        why: 'an application is told of fewer lost events than the server states',
      },
      {
        find: 'return { id, event: controlEvents.gap, data:',
        replace: 'return { id: to, event: controlEvents.gap, data:',
        why: 'a client that is cut after a gap misses what comes before the end of the gap',
        race: 'id on a control frame',
      },
      {
        find: '._~:-]{1,200}$',
        replace: '._~:-]{0,200}$',
        why: 'a topic without a name is a topic',
      },
    ],
  ),
];
