// Faults in the log that several processes share, and in the log in memory.

import { type Mutant, mutantsOf, type TestRun } from '../mutant.ts';

const named = (only: string): TestRun => ({ in: 'processes', only });
const contract: TestRun = { in: 'log-contract', only: 'the contract of logs: the log of several processes' };

export const processes: readonly Mutant[] = [
  ...mutantsOf(
    'log-owner.ts',
    [contract],
    [
      {
        find: 'if (record?.ended) throw topicEnded(topic);',
        replace: '',
        why: 'a topic that one process has ended takes events of another one',
      },
      {
        find: 'const last = this.#newestIn(topic) ?? record?.last ?? 0;',
        replace: 'const last = record?.last ?? 0;',
        why: 'two processes append behind the same event in one turn',
      },
      {
        find: '.map(({ topic, seq }) => ({ topic, seq: seq - base }))',
        replace: '.slice(0, 0)',
        why: 'a client of a worker is not told of what retention has dropped',
        property: 'what was lost of a topic is decidable',
      },
      {
        find: 'const known = idempotency && this.#staging.recall(idempotency.key);',
        replace: 'const known = this.#staging.recall("");',
        why: 'a request that is sent again to another process is published twice',
      },
      {
        find: 'this.#staging.addAndWait([{ entry, bytes: 0 }]).catch(() => {});',
        replace: '',
        why: 'an event gets the place of a change, and a client that has seen the change misses it',
        tests: [named('gives the place of a change to no event')],
      },
      {
        find: 'Math.max(0, recent.indexAfter(seq))',
        replace: 'recent.size',
        why: 'a process that follows gets no event, and reads each from the log',
        tests: [named('gets many small events')],
      },
    ],
  ),
  ...mutantsOf(
    'processes.ts',
    [contract],
    [
      {
        find: 'throw outcomeUnknown(`the owner of the log gave no answer',
        replace: 'throw logUnavailable(`the owner of the log gave no answer',
        why: 'a publisher is told that its event is certainly not there, and it may be',
        property: 'three outcomes of an append',
      },
      {
        find: 'if (epoch === present.epoch && seq > head)',
        replace: 'if (epoch === present.epoch && seq > head + 1e9)',
        why: 'a log that has lost events without a new epoch gives their ids to others',
        tests: [named('stays away from a log that has lost events')],
      },
      {
        find: 'await this.#accepted({ epoch: answer.epoch, seq: answer.first + answer.count - 1 });',
        replace: '',
        why: 'a publisher does not find at once what it has published',
        property: 'read your writes',
        tests: [named('answers an append once its own hub has all of it')],
      },
      {
        find: 'this.#waitingBytes > 0 && this.#waitingBytes + held > maxWaitingBytes',
        replace: 'maxWaitingBytes < 0',
        why: 'publishers fill the memory of a worker whose owner is slow',
        tests: [named('refuses at once what is too much to wait')],
      },
      {
        find: 'if (this.#told.seq >= whole(head, 0)) this.#completeAt',
        replace: 'this.#completeAt',
        why: 'a client that is ahead of a slow worker is told of a gap, and nobody sees that the worker is behind',
        tests: [named('knows when it last had all')],
      },
    ],
  ),
  ...mutantsOf(
    'log-peers.ts',
    [named('cuts a connection')],
    [
      {
        find: 'if (stream.writableLength > MAX_UNSENT_BYTES) stream.pause();',
        replace: '',
        why: 'a process that stands still fills the memory of the owner with answers',
        tests: [named('reads no more from a process')],
      },
      {
        find: 'if (this.#asked === MAX_ASKED)',
        replace: 'if (this.#asked < 0)',
        why: 'a process makes the owner hold any number of questions',
      },
      {
        find: "if (!this.#hasGreeted) throw badMessage('it does not begin with a greeting');",
        replace: '',
        why: 'a process of another version is taken for one of this',
      },
    ],
  ),
  ...mutantsOf(
    'log-wire.ts',
    [named('cuts a connection')],
    [
      {
        find: 'if (length > this.#maxBytes)',
        replace: 'if (length < 0)',
        why: 'a message that never ends fills the memory of the owner',
      },
    ],
  ),
  ...mutantsOf(
    'local-socket.ts',
    [named('refuses a path at which')],
    [
      {
        find: "if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) throw inUse(path, 'is not a socket');",
        replace: '',
        why: 'a file of somebody else is removed',
      },
    ],
  ),
  ...mutantsOf(
    'memory-log.ts',
    ['memory-log'],
    [
      {
        find: 'this.#floor = Math.max(this.#floor, topic.ring.last);',
        replace: '',
        why: 'a client that returns to a topic which was forgotten is not told what it lost',
        property: 'what was lost of a topic is decidable',
      },
      {
        find: 'if (this.#bytes > this.#maxHistoryBytes) this.#shed(topic);',
        replace: '',
        why: 'a log in memory grows without a limit',
      },
    ],
  ),
  ...mutantsOf(
    'command/metrics-sum.ts',
    [{ in: 'command/workers', only: 'the sum of metrics' }],
    [
      {
        find: 'if (LARGEST.has(sample)) return Math.max(one, other);',
        replace: '',
        why: 'the events published are shown once for each worker',
      },
      {
        find: 'if (!family.isGauge) counts',
        replace: 'counts',
        why: 'the open streams of a worker that died stay in the metrics',
      },
    ],
  ),
];
