// Every scenario, in the order in which they are run and shown.

import { fanout } from './fanout.ts';
import { micro } from './micro.ts';
import type { Scenario } from './scenario.ts';

export const scenarios: readonly Scenario[] = [micro, fanout];
