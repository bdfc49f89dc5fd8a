import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { describe, it, mock } from 'node:test';
import fc from 'fast-check';
import { type Permit, Semaphore } from '../lib/semaphore.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('Semaphore', () => {
  it('gives as many permits as its capacity, and again those that are released', () => {
    const permits = new Semaphore(2);
    const [one, two] = [permits.tryAcquire(), permits.tryAcquire()];
    assert.ok(one && two);
    assert.equal(permits.tryAcquire(), undefined);
    assert.deepEqual([permits.capacity, permits.available, permits.taken], [2, 0, 2]);
    one.release();
    assert.equal(permits.available, 1);
    assert.ok(permits.tryAcquire());
    assert.deepEqual([permits.peak, permits.granted], [2, 3]);
  });

  it('remembers the most permits that were held at once', () => {
    const permits = new Semaphore(3);
    for (const permit of [permits.tryAcquire()!, permits.tryAcquire()!]) permit.release();
    assert.ok(permits.tryAcquire());
    assert.deepEqual([permits.taken, permits.peak], [1, 2]);
  });

  it('takes a permit back once when it is released twice', () => {
    const permits = new Semaphore(1);
    const permit = permits.tryAcquire()!;
    permit.release();
    const other = permits.tryAcquire()!;
    permit.release();
    assert.equal(permits.taken, 1);
    other.release();
    other.release();
    assert.deepEqual([permits.taken, permits.available], [0, 1]);
  });

  it('gives a released permit to the caller that has waited longest', async () => {
    const permits = new Semaphore(1);
    const order: number[] = [];
    const first = await permits.acquire();
    const waits = [1, 2, 3].map(async (nth) => {
      const permit = await permits.acquire();
      order.push(nth);
      permit.release();
    });
    assert.equal(permits.waiting, 3);
    first.release();
    assert.equal(permits.tryAcquire(), undefined);
    await Promise.all(waits);
    assert.deepEqual(order, [1, 2, 3]);
    assert.deepEqual([permits.waiting, permits.taken, permits.peak], [0, 0, 1]);
  });

  it('rejects a caller when `maxWaiting` others wait', async () => {
    const permits = new Semaphore(1, { maxWaiting: 1 });
    const permit = permits.tryAcquire()!;
    const waiting = permits.acquire();
    await assert.rejects(permits.acquire(), {
      code: 'ERR_SSE_QUEUE_FULL',
      message: '1 callers already wait for a permit',
    });
    permit.release();
    (await waiting).release();
    assert.deepEqual([permits.refused, permits.taken], [1, 0]);
    const none = new Semaphore(1, { maxWaiting: 0 });
    none.tryAcquire();
    await assert.rejects(none.acquire(), { code: 'ERR_SSE_QUEUE_FULL' });
  });

  it('rejects each caller that has waited for `waitTimeout`', async () => {
    const permits = new Semaphore(1, { waitTimeout: 20 });
    const permit = permits.tryAcquire()!;
    const first = permits.acquire();
    await new Promise((resolve) => setTimeout(resolve, 10));
    const second = permits.acquire();
    await assert.rejects(first, {
      code: 'ERR_SSE_WAIT_TIMEOUT',
      message: 'no permit became free within 20 ms',
    });
    await assert.rejects(second, { code: 'ERR_SSE_WAIT_TIMEOUT' });
    assert.deepEqual([permits.expired, permits.waiting], [2, 0]);
    permit.release();
    assert.equal(permits.available, 1);
  });

  it('lets each caller wait for as long as `waitTimeout`, and not for as long as the first one', async (t) => {
    let now = 0;
    const clock = mock.method(performance, 'now', () => now);
    t.after(() => clock.mock.restore());
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const pass = (ms: number): void => {
      now += ms;
      t.mock.timers.tick(ms);
    };
    const permits = new Semaphore(1, { waitTimeout: 20 });
    const permit = permits.tryAcquire()!;
    const first = permits.acquire();
    pass(10);
    const second = permits.acquire();
    pass(10);
    await assert.rejects(first, { code: 'ERR_SSE_WAIT_TIMEOUT' });
    assert.deepEqual([permits.expired, permits.waiting], [1, 1]);
    permit.release();
    (await second).release();
  });

  it('rejects an aborted wait with the reason of its signal, and removes its listener', async () => {
    const permits = new Semaphore(1);
    const permit = permits.tryAcquire()!;
    const controller = new AbortController();
    const { signal } = controller;
    const [aborted, kept] = [permits.acquire({ signal }), permits.acquire()];
    assert.equal(getEventListeners(signal, 'abort').length, 1);
    const reason = { why: 'test' };
    controller.abort(reason);
    await assert.rejects(aborted, (error) => error === reason);
    assert.equal(getEventListeners(signal, 'abort').length, 0);
    await assert.rejects(permits.acquire({ signal }), (error) => error === reason);
    permit.release();
    (await kept).release();
    assert.deepEqual([permits.aborted, permits.available], [1, 1]);
  });

  it('removes its listener from the signal when a wait gets its permit', async () => {
    const permits = new Semaphore(1);
    const { signal } = new AbortController();
    const permit = await permits.acquire({ signal });
    const waiting = permits.acquire({ signal });
    permit.release();
    (await waiting).release();
    assert.equal(getEventListeners(signal, 'abort').length, 0);
  });

  it('agrees with a model of a counter and a queue, whatever the order of calls', async () => {
    const action = fc.oneof(
      fc.record({ type: fc.constant('acquire' as const) }),
      fc.record({ type: fc.constantFrom('release' as const, 'abort' as const), at: fc.nat(10) }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.array(action, { maxLength: 60 }),
        async (capacity, actions) => {
          const permits = new Semaphore(capacity, { maxWaiting: 3 });
          const held: { id: number; permit: Permit }[] = [];
          const model = { held: [] as number[], queue: [] as { id: number; controller: AbortController }[] };
          let id = 0;
          for (const act of actions) {
            if (act.type === 'acquire') {
              const mine = id++;
              const controller = new AbortController();
              const { signal } = controller;
              permits.acquire({ signal }).then(
                (permit) => held.push({ id: mine, permit }),
                () => {},
              );
              if (model.held.length < capacity) model.held.push(mine);
              else if (model.queue.length < 3) model.queue.push({ id: mine, controller });
            } else if (act.type === 'release' && held.length > 0) {
              const [gone] = held.splice(act.at % held.length, 1);
              gone!.permit.release();
              model.held.splice(model.held.indexOf(gone!.id), 1);
              const next = model.queue.shift();
              if (next !== undefined) model.held.push(next.id);
            } else if (act.type === 'abort' && model.queue.length > 0) {
              const [gone] = model.queue.splice(act.at % model.queue.length, 1);
              gone!.controller.abort();
            }
            await turn();
            const ids = held.map((one) => one.id).sort((a, b) => a - b);
            assert.deepEqual(
              ids,
              [...model.held].sort((a, b) => a - b),
            );
            assert.equal(permits.taken, model.held.length);
            assert.equal(permits.waiting, model.queue.length);
          }
        },
      ),
    );
  });

  it('rejects an option that is out of range, naming it and its value', () => {
    assert.throws(() => new Semaphore(0), {
      name: 'RangeError',
      message: '`capacity` must be a whole number ≥ 1 or Infinity, got 0',
    });
    assert.throws(() => new Semaphore(1.5), /`capacity`/);
    assert.throws(
      () => new Semaphore(1, { maxWaiting: -1 }),
      /`maxWaiting` must be a whole number ≥ 0 or Infinity, got -1$/,
    );
    assert.throws(
      () => new Semaphore(1, { waitTimeout: 2 ** 31 }),
      /`waitTimeout` must be .* got 2147483648$/,
    );
    assert.equal(new Semaphore(Infinity).available, Infinity);
  });
});
