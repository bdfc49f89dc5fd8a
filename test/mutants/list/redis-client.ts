// Faults in the connections to Redis, and in the log that only passes events on.

import { type Mutant, mutantsOf } from '../mutant.ts';

export const redisClient: readonly Mutant[] = [
  ...mutantsOf(
    'redis-line.ts',
    ['redis-line', 'redis-client'],
    [
      {
        find: "withdrawal?.signal.aborted ? 'unsent' : 'unanswered'",
        replace: "'unsent'",
        why: 'a command that was executed counts as not sent, and its sender repeats it',
      },
      {
        find: "withdrawal?.signal.aborted ? 'unsent' : 'unanswered'",
        replace: "'unanswered'",
        why: 'what was taken back counts as perhaps executed',
      },
      {
        find: 'if (!this.isUp) return Promise.reject(unreachable());',
        replace: '',
        why: 'a command is handed to a client that may keep it for later',
      },
      {
        find: "if (isAsked) this.#wire.call(['ASKING'], undefined).catch(() => {});",
        replace: '',
        why: 'a key that was moved before its slot is never found',
      },
      {
        find: 'if (performance.now() - (this.#answeredAt ?? -Infinity) >= timeout) this.close(silent());',
        replace: '',
        why: 'a connection that is dead is used until the kernel notices',
      },
      {
        find: 'if (performance.now() - (this.#answeredAt ?? -Infinity) >= timeout) this.close(silent());',
        replace: 'this.close(silent());',
        why: 'one slow command costs all others their answers',
      },
      {
        find: "if (failure.reply === 'READONLY') this.#isRetired = true;",
        replace: '',
        why: 'after a failover the old primary is asked for ever',
      },
      {
        find: 'if (!this.#isRetired || this.#waiting.size > 0) return;',
        replace: 'if (!this.#isRetired) return;',
        why: 'commands that have been answered count as perhaps executed',
      },
      {
        find: 'this.#rejectAll(reason.message);',
        replace: '',
        why: 'a command waits for its whole time after its connection broke',
      },
      {
        find: 'Object(error).code === undefined ? REPLY_WORD.exec(message)?.[1] : undefined',
        replace: 'REPLY_WORD.exec(message)?.[1]',
        why: 'an error of the network counts as an answer of the server',
      },
      {
        find: ".replace(/, with args beginning with.*/s, '')",
        replace: '',
        why: 'a password that the server repeats gets into logs',
      },
      {
        find: "replaceAll(/\\/\\/\\S*@/g, '//')",
        replace: "replaceAll('@', '@')",
        why: 'a password of a URL gets into logs',
      },
      {
        find: 'const timer = setTimeout(() => this.close(silent()), OPEN_TIMEOUT);',
        replace: 'const timer = undefined;',
        why: 'a server that accepts and says nothing is waited for for ever',
      },
    ],
  ),
  ...mutantsOf(
    'redis-client.ts',
    ['redis-client'],
    [
      {
        find: 'this.#timer = setTimeout(() => this.#begin(), this.#backoff.nextDelay());',
        replace: 'this.#timer = setTimeout(() => this.#begin(), 100);',
        why: 'all nodes come back to a server at the same moment',
      },
      {
        find: 'this.#backoff.connectionEnded(',
        replace: 'void (',
        why: 'after the first trouble each later one takes seconds',
      },
      {
        find: 'if (!isAsk && !line.isOpening) this.end(failure);',
        replace: '',
        why: 'a node that is gone is sent to until somebody closes the connection',
      },
      {
        find: 'hops < MAX_REDIRECTS ? redirectOf(error as RedisFailure) : undefined',
        replace: 'redirectOf(error as RedisFailure)',
        why: 'two nodes that name each other keep a command going round',
      },
      {
        find: "host: host === '' || host === '?' ? undefined : host",
        replace: 'host',
        why: 'a node that does not know its name is not found',
      },
      {
        find: 'return withinTime(line.subscribe(channel, onMessage), performance.now() + OPEN_TIMEOUT);',
        replace: 'return line.subscribe(channel, onMessage);',
        why: 'a server that takes no subscription is waited for for ever',
      },
    ],
  ),
  ...mutantsOf(
    'redis-wire.ts',
    ['redis-client'],
    [
      {
        find: "if (prefix === undefined || prefix === null || String(prefix) === '') return;",
        replace: 'return;',
        why: 'two programs that differ in their prefix share a hub',
      },
      {
        find: 'enableOfflineQueue: false,\n  autoResend',
        replace: 'autoResend',
        why: 'a command is sent long after its sender was told that it was not',
      },
    ],
  ),
  ...mutantsOf(
    'redis-lossy.ts',
    ['redis-lossy'],
    [
      {
        find: 'if (expected !== undefined && count > expected) this.#renew();',
        replace: '',
        why: 'a message that was lost on the way is a silent hole',
      },
      {
        find: 'const expected = topic === undefined ? before : (before ?? count - 1) + 1;',
        replace: 'const expected = (before ?? count - 1) + 1;',
        why: 'the last message that was lost is a silent hole',
      },
      {
        find: '        this.#renew();\n        this.#up();',
        replace: '        if (this.#epoch === 0) this.#renew();\n        this.#up();',
        why: 'what was published while the connection was broken is a silent hole',
      },
      {
        find: '        this.#giveBack(count);\n',
        replace: '',
        why: 'each stream is told of a gap for an event that Redis has refused',
      },
      {
        find: "if (this.#unheard > 1) return this.#listener?.reset('the channel has fallen silent');",
        replace: '',
        why: 'a hub that hears nothing looks healthy',
      },
      {
        find: 'if (this.#unheard > 1)',
        replace: 'if (this.#unheard > 0)',
        why: 'a process that was busy tells a gap that is none',
      },
      {
        find: 'if (known?.ended === true) throw topicEnded(topic);',
        replace: '',
        why: 'an event comes after the end of its topic',
      },
      {
        find: 'this.#topics.set(name, { ...topic, last: 0 })',
        replace: 'this.#topics.set(name, topic)',
        why: 'after a cut, what is known of a topic is of another epoch',
      },
      {
        find: 'this.#waitingBytes + bytes > MAX_WAITING_BYTES',
        replace: 'false',
        why: 'a server that stands still costs memory without a bound',
      },
      {
        find: 'if (this.#senders.size > MAX_SENDERS && oldest !== undefined) this.#senders.delete(oldest);',
        replace: '',
        why: 'hubs that come and go cost memory without a bound',
      },
      {
        find: 'this.#rejectAll(reason.message);',
        replace: '',
        why: 'a publisher hears late that nobody knows what became of its event',
      },
    ],
  ),
  ...mutantsOf(
    'arrivals.ts',
    ['redis-lossy'],
    [
      {
        find: 'const extra = this.#isLossy ? { lossy: true, ...announce } : announce;',
        replace: 'const extra = announce;',
        why: 'a client cannot tell that events may be missing',
      },
      {
        find: 'if (beginsEarlier(arrival.request) && !this.#isLossy)',
        replace: 'if (beginsEarlier(arrival.request))',
        why: 'from and last begin with nothing although memory has events',
      },
      {
        find: '(start.isAhead === true && !this.#isLossy)',
        replace: 'start.isAhead === true',
        why: 'a client of another hub waits for a second for what cannot come',
      },
    ],
  ),
];
