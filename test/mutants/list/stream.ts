// Faults in one client's stream: stream, chunked, writer, heartbeat, keepalive.

import { type Mutant, mutantsOf } from '../mutant.ts';

export const stream: readonly Mutant[] = [
  ...mutantsOf(
    'stream.ts',
    [{ in: 'stream', only: 'openStream|stream|trap' }],
    [
      {
        find: 'this.#req.resume?.();',
        replace: '',
        why: 'a stream whose request has a body ends at the `requestTimeout` of the server',
        tests: [{ in: 'stream', only: 'trap 11' }],
      },
      {
        find: "socket.on('end', gone);",
        replace: '',
        why: 'a client that closes its half and reads no more holds its stream for ever',
        tests: [{ in: 'stream', only: 'trap 3' }],
      },
      {
        find: "withNames(head.getHeader('Cache-Control'), NO_CACHING)",
        replace: "String(head.getHeader('Cache-Control'))",
        why: 'a cache serves the stream of one client to another',
        tests: [{ in: 'stream', only: 'traps 8 and 10' }],
      },
      {
        find: ' && bytes.length > 0',
        replace: '',
        why: 'an empty write ends the response',
        tests: ['stream.via'],
      },
      {
        find: ' && !isFirst',
        replace: '',
        why: 'events are sent before the head of the response',
        tests: ['stream.via'],
      },
      {
        find: 'if (socket.destroyed || streaming.has(socket)) {',
        replace: 'if (socket.destroyed) {',
        why: 'a second stream on one connection waits behind the first for ever',
        tests: [{ in: 'stream', only: 'trap 4' }],
      },
      {
        find: "if (this.#queued !== '') this.#flush();",
        replace: '',
        why: 'queued text arrives after what was sent later',
        tests: [{ in: 'stream', only: 'queueText' }],
      },
      {
        find: ' && !PATCHED.some((method) => Object.hasOwn(res, method))',
        replace: '',
        why: 'a middleware that sets headers with the first write fails, because the head is finished',
      },
      {
        find: 'this.#opened = false;',
        replace: '',
        why: 'a stream whose head failed is sent without its type, and caches may keep it',
        tests: [{ in: 'stream', only: 'a head that cannot be sent' }],
      },
      {
        find: 'this.#attempt(() => this.prepare());',
        replace: 'this.prepare();',
        why: 'a head that fails at a deadline ends the process',
        tests: [{ in: 'stream', only: 'a head that cannot be sent' }],
      },
      {
        find: 'if (other && isOn(other, res))',
        replace: 'if (false)',
        why: 'a program that opens two streams for one response has its connections cut, and no error says why',
      },
      {
        find: 'const known = isList ? headers.get(key) : undefined;',
        replace: 'const known = isList ? headers.get(name) : undefined;',
        why: 'of cookies in a list of headers only the last is sent',
      },
      {
        find: "head.removeHeader('Content-Length');",
        replace: '',
        why: 'a stream ends after the bytes that a framework has counted for another response',
        tests: [{ in: 'stream', only: 'headers that frameworks set' }],
      },
      {
        find: 'this.#socket?.setTimeout?.(0);',
        replace: '',
        why: 'a quiet stream is cut by the timeout of the socket',
        tests: [{ in: 'stream', only: 'trap 11' }],
      },
      {
        find: "this.#res.writableEnded === true && !this.closed ? 'answered' : 'client-gone'",
        replace: "'client-gone'",
        why: 'a handler that forgets to wait looks like a client that has left',
        tests: [{ in: 'stream', only: 'trap 1' }],
      },
      {
        find: 'this.#res.writableEnded === true && !this.closed ?',
        replace: 'this.#res.writableEnded === true ?',
        why: 'a client that leaves after the end of its stream looks like a handler that forgets to wait',
        tests: [{ in: 'stream', only: 'trap 1' }],
      },
      {
        find: 'if (CONNECTION_HEADERS.has(name.toLowerCase())) {',
        replace: 'if (false) {',
        why: 'a header that HTTP/2 forbids fails at the head, which a deadline may send: the process ends',
        tests: [{ in: 'stream', only: 'bad options' }],
      },
      {
        find: 'known === undefined ? [name, texts] : [known[0], [known[1], texts].flat()]',
        replace: '[name, texts]',
        why: 'only one cookie of `Headers` reaches the client',
        tests: [{ in: 'stream', only: 'headers in every form' }],
      },
      {
        find: ' && !this.#hadEncoding',
        replace: '',
        why: 'a stream that compresses itself is taken for one that a middleware compresses',
        tests: [{ in: 'stream', only: 'is not suspected' }],
      },
      {
        find: 'streaming.delete(socket);',
        replace: '',
        why: 'a kept-alive connection can carry no second stream',
        tests: [{ in: 'stream', only: 'several streams in turn|trap 4' }],
      },
    ],
  ),
  ...mutantsOf(
    'chunked.ts',
    ['chunked'],
    [
      {
        find: 'chunk[i] = size.charCodeAt(i)',
        replace: 'chunk[i] = size.charCodeAt(0)',
        why: 'a client gets a chunk with a wrong length, and gives up',
      },
    ],
  ),
  ...mutantsOf(
    'writer.ts',
    ['writer'],
    [
      {
        find: 'this.#cause ??= cause;',
        replace: 'this.#cause = cause;',
        why: 'the cause that is reported is not the one that ended the stream',
      },
      {
        find: 'const moved = waitingBytes < this.#waitingBytes;',
        replace: 'const moved = false;',
        why: 'a slow client that takes bytes is cut as stalled',
      },
      {
        find: 'this.#isSteady = false;\n    const source',
        replace: 'const source',
        why: 'what waits for a client that does not read is not bounded',
      },
      {
        find: 'this.#isSteady = false;\n    this.#ending',
        replace: 'this.#ending',
        why: 'bytes are written behind the end of a stream',
      },
      {
        find: 'if (isComment(bytes)) this.#commentBytes += bytes.length;',
        replace: '',
        why: 'heartbeats keep an idle stream alive',
      },
      {
        find: 'if (isComment(bytes)) this',
        replace: 'if (bytes[0] === COLON) this',
        why: 'a busy stream whose events begin with a comment ends as idle',
      },
      {
        find: 'return bytes + WRITE_OVERHEAD * bytes * (waits.writes / waits.bytes);',
        replace: 'return bytes;',
        why: 'many small writes to a client that does not read take memory without a bound',
      },
      {
        find: 'if (!this.writableNeedDrain && !this.closed) this.#awaitDrain();',
        replace: 'if (!this.writableNeedDrain) this.#awaitDrain();',
        why: 'a client that leaves during a write leaves a listener behind',
      },
      {
        find: "signal.removeEventListener('abort', endFollowers);",
        replace: '',
        why: 'a signal that lives as long as the server collects listeners',
      },
      {
        find: 'const cancelled = Boolean(this.#target.stream?.rstCode);',
        replace: 'const cancelled = false;',
        why: 'a cancelled HTTP/2 stream counts as delivered',
        tests: [{ in: 'stream', only: 'HTTP/2 stream is cancelled' }],
      },
      {
        find: 'this.#target.stream?.close?.(HTTP2_CANCEL);',
        replace: '',
        why: 'a client of HTTP/2 takes a cut for the end, and does not come back',
        tests: [{ in: 'stream', only: 'its stream was cut' }],
      },
      {
        find: 'if (watched.size > 0 && finest > interval) startTimer(finest);',
        replace: '',
        why: 'one stream with a short deadline makes all others be looked at often for ever',
      },
    ],
  ),
  ...mutantsOf(
    'heartbeat.ts',
    ['heartbeat'],
    [
      {
        find: 'if (sink.writableNeedDrain) {',
        replace: 'if (false) {',
        why: 'heartbeats pile up for a client that takes nothing',
      },
      {
        find: 'member.since = member.seen;',
        replace: 'member.since = this.#now();',
        why: 'silences are longer than the interval, so that proxies cut the stream',
      },
      {
        find: 'this.delete(sink);',
        replace: '',
        why: 'closed streams stay in memory',
      },
      {
        find: 'last.index = member.index;',
        replace: '',
        why: 'streams get no heartbeats after another one has left',
      },
      {
        find: 'if (this.#members.size === 0) this.#halt();',
        replace: '',
        why: 'the timer goes on without streams',
      },
      {
        find: '(interval * member.early) / 1000',
        replace: '0',
        why: 'all streams that fell silent together get their heartbeats at once',
      },
      {
        find: 'member.endedSilence > 0 ? member.endedSilence : now - member.since',
        replace: 'now - member.since',
        why: 'the learned interval is far too short, because a lost connection shows at the next heartbeat',
      },
      {
        find: 'if (!this.#isLost(member.sink)) return;',
        replace: '',
        why: 'streams that the server has ended count as cut by the network',
      },
    ],
  ),
  ...mutantsOf(
    'keepalive.ts',
    ['keepalive'],
    [
      {
        find: 'if (position !== this.#position) this.#beat',
        replace: "if (this.#position === '') this.#beat",
        why: 'each heartbeat carries the position of the first stream, beyond what others have received',
        race: 'id on a control frame',
      },
      {
        find: 'this.#told = position;',
        replace: '',
        why: 'each heartbeat of a stream carries its position again',
      },
    ],
  ),
];
