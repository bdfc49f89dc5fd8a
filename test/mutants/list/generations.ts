// Faults in what runs generations.

import { type Mutant, mutantsOf } from '../mutant.ts';

export const generations: readonly Mutant[] = [
  ...mutantsOf(
    'generation.ts',
    ['generations'],
    [
      {
        find: 'const behind = this.#isShared ? this.#place : undefined;',
        replace: 'const behind = undefined;',
        why: 'a token is there twice where an answer of the log was lost, or comes after the last event',
        tests: ['generations.shared'],
      },
      {
        find: 'if (isDeleted || this.#isLast(type)) throw topicEnded(this.#topic);',
        replace: '',
        why: 'a node that wakes up goes on behind the last event',
        tests: ['generations.shared'],
      },
      {
        find: "await this.append([{ event: last.event, data: '{}' }]);",
        replace: 'throw error;',
        why: 'a generation never ends where what the application says of its end cannot be sent',
      },
      {
        find: 'if (this.#size >= MAX_PENDING) await this.#turn();',
        replace: 'if (this.#size >= Infinity) await this.#turn();',
        why: 'a source is read into memory while the log is away',
      },
      {
        find: 'await hub.ready(topic, { signal }).catch(() => {});',
        replace: '',
        why: 'a source that is faster than its readers costs them a gap',
      },
      {
        find: 'if (!isPulling) stop();',
        replace: '',
        why: 'a source that has yielded what cannot be sent goes on for ever',
      },
      {
        find: 'for (const event of batch) if (this.#outcome === undefined) await this.#append([event]);',
        replace: 'return this.#fail(error);',
        why: 'what came before an event that cannot be sent is lost with it',
      },
    ],
  ),
  ...mutantsOf(
    'generations.ts',
    ['generations.shared'],
    [
      {
        find: 'const isLate = (this.#others.get(topic) ?? 0) > PARTS;',
        replace: 'const isLate = true;',
        why: 'a node that hears the others late ends what they run',
      },
      {
        find: 'await this.#notices!.sayAndHear({ missed: missed.slice(i, i + MAX_NAMED) });',
        replace: 'await Promise.resolve();',
        why: 'a node that hears nothing ends what the others run',
      },
      {
        find: 'this.#sayRunning();\n    this.#deleteOld();',
        replace: 'this.#deleteOld();',
        why: 'each lease, every node asks every other whether it still lives',
      },
      {
        find: 'if (!this.#others.has(topic)) await this.#notices!.sayAndHear({});',
        replace: '',
        why: 'a generation cannot be stopped from a node that has not heard of it yet',
      },
      {
        find: 'if (under !== undefined) return under;',
        replace: '',
        why: 'a generation of a process that died has two last events',
        tests: ['generations'],
      },
      {
        find: 'if (this.#claims.get(topic) !== true) throw isRunning(topic);',
        replace: '',
        why: 'two nodes run into one topic, where one hears late of the other',
      },
      {
        find: 'this.#attempt(this.#options.notices, () => this.#endLost());',
        replace: '',
        why: 'readers wait for ever for a last event that the store has lost',
      },
      {
        find: 'if (isEnded || outcome !== undefined) throw topicEnded(topic);',
        replace: 'if (isEnded) throw topicEnded(topic);',
        why: 'a topic has two last events, where only its end was missing',
      },
      {
        find: 'if (!isEnded && known === undefined) {',
        replace: 'if (!isEnded) {',
        why: 'a generation that was done has failed as well, where its process died between the two',
        tests: ['generations'],
      },
      {
        find: 'if (!isEnded && record?.deleted !== true) return;',
        replace: '',
        why: 'a topic that somebody has reopened is deleted',
        tests: ['generations'],
      },
      {
        find: 'const stop = this.#follow(topic, {});',
        replace: 'const stop = () => {};',
        why: 'who comes after a topic was deleted waits for ever',
        tests: ['generations'],
      },
    ],
  ),
];
