// Lists every scenario, in the order in which they run and are shown.

import { connect } from './connect.ts';
import { drain } from './drain.ts';
import { fanout } from './fanout.ts';
import { follow } from './follow.ts';
import { gzip } from './gzip.ts';
import { heartbeat } from './heartbeat.ts';
import { idle } from './idle.ts';
import { latency } from './latency.ts';
import { llm } from './llm.ts';
import { micro } from './micro.ts';
import { redis } from './redis.ts';
import { redisLatency } from './redis-latency.ts';
import { redisMemory } from './redis-memory.ts';
import { scale } from './scale.ts';
import type { Scenario } from './scenario.ts';
import { stalled } from './stalled.ts';
import { stalled10k } from './stalled10k.ts';
import { storm } from './storm.ts';
import { topics } from './topics.ts';
import { workers } from './workers.ts';

export const scenarios: readonly Scenario[] = [
  micro,
  fanout,
  latency,
  scale,
  topics,
  gzip,
  llm,
  connect,
  idle,
  heartbeat,
  stalled,
  stalled10k,
  storm,
  drain,
  redis,
  redisLatency,
  redisMemory,
  follow,
  workers,
];
