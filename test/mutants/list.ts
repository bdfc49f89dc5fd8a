// All mutants. To add one, write an entry into the file of list/ that has its module.

import { command } from './list/command.ts';
import { copy } from './list/copy.ts';
import { doctor } from './list/doctor.ts';
import { generations } from './list/generations.ts';
import { history } from './list/history.ts';
import { hub } from './list/hub.ts';
import { limits } from './list/limits.ts';
import { load } from './list/load.ts';
import { log } from './list/log.ts';
import { models } from './list/models.ts';
import { processes } from './list/processes.ts';
import { reader } from './list/reader.ts';
import { redis } from './list/redis.ts';
import { redisClient } from './list/redis-client.ts';
import { schema } from './list/schema.ts';
import { sqlite } from './list/sqlite.ts';
import { stream } from './list/stream.ts';
import { testing } from './list/testing.ts';
import { web } from './list/web.ts';
import type { Mutant } from './mutant.ts';

export const mutants: readonly Mutant[] = [
  ...history,
  ...hub,
  ...log,
  ...redis,
  ...redisClient,
  ...sqlite,
  ...processes,
  ...generations,
  ...stream,
  ...web,
  ...models,
  ...limits,
  ...reader,
  ...testing,
  ...doctor,
  ...command,
  ...load,
  ...copy,
  ...schema,
];
