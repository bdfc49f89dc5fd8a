// Faults in what keeps a server within its limits: limiter, semaphore, idempotency, shutdown.

import { type Mutant, mutantsOf } from '../mutant.ts';

export const limits: readonly Mutant[] = [
  ...mutantsOf(
    'limiter.ts',
    ['limiter'],
    [
      {
        find: '\n    permit.release();',
        replace: '',
        why: 'each connection takes a place of the server for good',
      },
      {
        find: 'if (client !== undefined) this.byKey.add(client, -1);',
        replace: '',
        why: 'a client is locked out after as many connections as it may have at once',
      },
      {
        find: 'for (const topic of topics) this.byTopic.add(topic, -1);',
        replace: '',
        why: 'a topic is full for good after as many connections as it may have at once',
        tests: [{ in: 'limiter', only: 'of a topic that have ended' }],
      },
      {
        find: 'admission.permit = undefined;',
        replace: '',
        why: 'a connection that ends in two ways gives back two places',
        tests: [{ in: 'limiter', only: 'kept-alive socket|closes its half' }],
      },
      {
        find: 'if (!res.headersSent) slots.release(admission);',
        replace: 'slots.release(admission);',
        why: 'a response that fails half-way counts as over while it still runs',
      },
      {
        find: 'this.before = newestOpen(this.before);',
        replace: '',
        why: 'a connection that always has a request in progress keeps every old response',
        tests: [{ in: 'limiter', only: 'keeps no old responses' }],
      },
      {
        find: "key.length <= MAX_KEY_LENGTH ? key : hash('sha256', Buffer.from(key, 'utf16le'), 'base64url')",
        replace: 'key.slice(0, MAX_KEY_LENGTH)',
        why: 'clients whose long keys begin in the same way share one limit',
        tests: [{ in: 'limiter', only: 'keeps no long key' }],
      },
      {
        find: '(this.#burst - 1) * this.#cost',
        replace: 'this.#burst * this.#cost',
        why: 'a client may open one connection more than `burst`',
        tests: [{ in: 'limiter', only: '`burst` connections at once' }],
      },
      {
        find: 'return isBrowser && ',
        replace: 'return ',
        why: 'a program that reads statuses gets 200 for a refusal',
      },
      {
        find: 'if (isGone(req, res)) return undefined;',
        replace: '',
        why: 'a client that has left already takes a place for good',
        tests: [{ in: 'limiter', only: 'already disconnected' }],
      },
      {
        find: 'if (this.#young.size >= MAX_RATES) this.#startGeneration();',
        replace: '',
        why: 'a crowd of addresses takes memory without a bound',
        tests: [{ in: 'limiter', only: 'a quarter of a million addresses' }],
      },
      {
        find: "if (this.wait(client) > 0) return 'too-fast';",
        replace: '',
        why: 'a client may open connections as fast as it likes',
        tests: [{ in: 'limiter', only: '`burst` connections at once' }],
      },
    ],
  ),
  ...mutantsOf(
    'semaphore.ts',
    ['semaphore'],
    [
      {
        find: 'this.#giveBack = undefined;',
        replace: '',
        why: 'a permit that is released twice lets two others in',
      },
      {
        find: 'if (this.#queue.size < this.#maxWaiting)',
        replace: 'if (this.#queue.size <= this.#maxWaiting)',
        why: 'one caller more than `maxWaiting` waits',
      },
      {
        find: "signal?.removeEventListener('abort', onAbort);",
        replace: '',
        why: 'a signal that is used again and again collects listeners',
      },
      {
        find: 'if (waiter.deadline > now) break;',
        replace: '',
        why: 'callers are told that they have waited for too long when another one has',
      },
      {
        find: 'for (const first of this.#queue) return first.grant();',
        replace: 'for (const last of [...this.#queue].reverse()) return last.grant();',
        why: 'the caller that came last goes first',
      },
      {
        find: 'if (this.#taken > this.#peak) this.#peak = this.#taken;',
        replace: 'this.#peak = this.#taken;',
        why: 'the peak is forgotten',
      },
    ],
  ),
  ...mutantsOf(
    'idempotency.ts',
    ['idempotency'],
    [
      {
        find: 'if (known !== undefined) {',
        replace: 'if (known === null) {',
        why: 'a publisher that repeats a request after a time-out publishes twice',
        race: 'publisher retry after a time-out',
        property: 'a retried append publishes once',
      },
      {
        find: 'if (known.digest !== digest) throw',
        replace: 'if (known.digest === null) throw',
        why: 'another event under a used key is taken for published, and is lost',
        property: 'a retried append publishes once',
      },
      {
        find: 'if (this.#entries.get(key) === entry) this.#drop(key);',
        replace: '',
        why: 'a request that has failed once fails for as long as its key is kept',
        race: 'publisher retry after a time-out',
      },
    ],
  ),
  ...mutantsOf(
    'shutdown.ts',
    [{ in: 'shutdown', only: 'each a retry of its own|opens later on a busy' }],
    [
      {
        find: 'if (!stream.closed && !this.#left.has(stream)) open.add(stream);',
        replace: 'if (stream.closed && !this.#left.has(stream)) open.add(stream);',
        why: 'streams are cut at the deadline, without the `retry` with which they come back spread out',
        race: 'shutdown during replay',
      },
    ],
  ),
];
