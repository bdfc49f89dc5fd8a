// A connection to Redis, with what it said.

import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import {
  openRedis,
  type RedisConnection,
  type RedisFailure,
  type RedisReply,
} from '../../../lib/redis-client.ts';
import type { Cleanup } from '../../helpers/server.ts';
import { until } from './redis-servers.ts';

const PATIENCE = 5000;

/** Is closed when the test is over. */
export class Opened {
  readonly connection: RedisConnection;
  readonly said: string[] = [];
  readonly reasons: RedisFailure[] = [];
  #seen = 0;

  constructor(t: Cleanup, client: unknown) {
    this.connection = openRedis(client, {
      onUp: () => {
        this.said.push('up');
      },
      onDown: (reason) => {
        this.said.push('down');
        this.reasons.push(reason);
      },
    });
    t.after(() => this.connection.close());
  }

  async up(): Promise<this> {
    await until(() => this.connection.isUp);
    return this;
  }

  /** The reason why it went down, or could not come up, since this was asked last. */
  async down(): Promise<RedisFailure> {
    await until(() => this.reasons.length > this.#seen);
    this.#seen = this.reasons.length;
    return this.reasons.at(-1) as RedisFailure;
  }

  send(...command: readonly (string | Uint8Array)[]): Promise<RedisReply> {
    return this.connection.send(command, { key: 'counter', timeout: PATIENCE });
  }

  within(timeout: number, ...command: readonly string[]): Promise<RedisReply> {
    return this.connection.send(command, { key: 'counter', timeout });
  }
}

/** The failure of a command that must fail. */
export async function failureOf(sent: Promise<RedisReply>): Promise<RedisFailure> {
  try {
    return assert.fail(`was answered: ${inspect(await sent)}`);
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    return error as RedisFailure;
  }
}

/** Whether each of the resources was there before. */
export function isSubset(now: readonly string[], before: readonly string[]): boolean {
  const left = [...before];
  return now.every((name) => {
    const at = left.indexOf(name);
    if (at >= 0) left.splice(at, 1);
    return at >= 0;
  });
}
