// The fake clock of `sluice/testing`, in the place of the real one until a test ends.

import type { TestContext } from 'node:test';
import { FakeClock } from '../../lib/fake-clock.ts';

export { FakeClock };

export function fakeTime(t: TestContext): FakeClock {
  const clock = FakeClock.install();
  t.after(() => clock.uninstall());
  return clock;
}
