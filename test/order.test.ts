import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { newEpoch, Order } from '../lib/order.ts';
import { unreadableId } from '../lib/protocol.ts';
import { at, EPOCH } from './helpers/hub.ts';

describe('Order', () => {
  it('gives each seq its id, in whatever sequence they are asked for', () => {
    const order = new Order([{ epoch: EPOCH, base: 0 }], 3);
    assert.deepEqual(
      [3, 3, 4, 3, 0].map((seq) => order.id(seq)),
      [
        '1795408776829004-3',
        '1795408776829004-3',
        '1795408776829004-4',
        '1795408776829004-3',
        '1795408776829004-0',
      ],
    );
  });

  it('names its head as its position, and follows it', () => {
    const order = new Order([{ epoch: EPOCH, base: 0 }], 3);
    assert.equal(order.position, at(3));
    order.head = 4;
    assert.equal(order.position, at(4));
  });

  it('has settled everything up to the head with which it begins', () => {
    assert.equal(new Order([{ epoch: EPOCH, base: 0 }], 3).settled, 3);
  });

  it('continues after an id of its own, and repeats that id', () => {
    const order = new Order([{ epoch: EPOCH, base: 0 }], 3);
    for (const seq of [0, 1, 3]) {
      assert.deepEqual(order.locate(at(seq)), { seq, readyId: at(seq), from: at(seq) });
    }
  });

  it('continues at the head after an id ahead of it, or of another epoch, and repeats that id', () => {
    const order = new Order([{ epoch: EPOCH, base: 0 }], 3);
    const cases = {
      [at(4)]: 'ahead',
      [at(Number.MAX_SAFE_INTEGER)]: 'ahead',
      '1795408776829003-2': 'unknown-epoch',
      '1795408776829005-2': 'unknown-epoch',
      [unreadableId]: 'unknown-epoch',
    };
    for (const [id, gap] of Object.entries(cases)) {
      const isAhead = gap === 'ahead' || id > at(0);
      assert.deepEqual(order.locate(id), { seq: 3, gap, ...(isAhead && { isAhead }), readyId: id, from: id });
    }
  });

  it('continues at the head after an id that cannot be read, and does not repeat it', () => {
    const order = new Order([{ epoch: EPOCH, base: 0 }], 3);
    for (const id of ['x', '1795408776829004-01', `${at(1)}, ${at(1)}`]) {
      assert.deepEqual(order.locate(id), { seq: 3, gap: 'malformed', readyId: unreadableId, from: null });
    }
  });

  it('names an epoch or a head that cannot be used', () => {
    for (const epoch of [0, -1, 1.5, 2 ** 53, Number.NaN]) {
      assert.throws(() => new Order([{ epoch, base: 0 }], 0), {
        name: 'RangeError',
        message: `\`epoch\` must be a whole number ≥ 1, got ${epoch}`,
      });
    }
    for (const head of [-1, 0.5, Number.NaN]) {
      assert.throws(() => new Order([{ epoch: EPOCH, base: 0 }], head), {
        name: 'RangeError',
        message: /`head`/,
      });
    }
  });
});

describe('newEpoch', () => {
  it('makes an epoch of the millisecond and three random digits', () => {
    assert.equal(
      newEpoch(
        () => 1_795_408_776_829.7,
        () => 0.0049,
      ),
      EPOCH,
    );
    assert.equal(
      newEpoch(
        () => 1_795_408_776_829,
        () => 0.999_999,
      ),
      1_795_408_776_829_999,
    );
  });

  it('makes numbers that ids can carry, until the year 2255', () => {
    assert.ok(
      Number.isSafeInteger(
        newEpoch(
          () => Date.UTC(2255, 0),
          () => 0.999_999,
        ),
      ),
    );
  });
});
