// The fake clock of `sluice/testing`, in the place of the real one until a test ends.

import type { TestContext } from 'node:test';
import { FakeClock } from '../../lib/fake-clock.ts';

export { FakeClock };

export function fakeTime(t: TestContext): FakeClock {
  const clock = FakeClock.install();
  t.after(() => clock.uninstall());
  return clock;
}

const { now: realNow } = Date;

/** Puts a date in the place of that of the clock until a test ends: what lasts for long passes at once. */
export function fakeDate(t: TestContext, now: () => number): void {
  Date.now = now;
  // `t.mock` would put back that of the clock, which is gone by then.
  t.after(() => {
    Date.now = realNow;
  });
}
