// Opens connections to a Redis with the settings of the user's own client.
// Stands alone: copy this file by itself.

/** Bulk and simple strings as UTF-8 text, integers as numbers, arrays. Maps never appear. */
export type RedisReply = string | number | null | readonly RedisReply[];

export interface RedisConnection {
  /** Rejects with a {@link RedisFailure}. Commands are sent in order. `key` finds the node of a cluster. */
  send(
    command: readonly (string | Uint8Array)[],
    options: { readonly key: string; readonly timeout: number },
  ): Promise<RedisReply>;
  readonly isUp: boolean;
  /** At once: what waits is rejected. */
  close(): void;
}

/**
 * Why a command has no reply. `reply`: the server has refused it, with this first word. `unsent`: it was certainly
 * not run and never will be. `unanswered`: it may have been run.
 */
export interface RedisFailure extends Error {
  readonly kind: 'reply' | 'unsent' | 'unanswered';
  readonly reply?: string;
}

export interface RedisEvents {
  onUp(): void;
  onDown(error: Error): void;
}

interface Client {
  duplicate(options: object): Client;
  call(command: string, ...args: (string | Uint8Array)[]): Promise<unknown>;
  on(event: string, listener: (error: Error) => void): unknown;
  connect(): Promise<unknown>;
  disconnect(): void;
  readonly status: string;
}

function failure(kind: RedisFailure['kind'], message: string, reply?: string): RedisFailure {
  return Object.assign(new Error(message), { kind, ...(reply !== undefined && { reply }) });
}

/** Opens one more connection, which reconnects by itself. */
export function openRedis(client: unknown, { onUp, onDown }: RedisEvents): RedisConnection {
  const own = (client as Client).duplicate({
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    lazyConnect: true,
    enableReadyCheck: true,
    retryStrategy: (times: number) => Math.random() * Math.min(2000, 50 * 2 ** times),
  });
  let isClosed = false;
  let reason: Error = failure('unsent', 'the connection was lost');
  own.on('ready', () => onUp());
  own.on('error', (error) => {
    reason = error;
  });
  own.on('close', () => {
    if (!isClosed) onDown(reason);
  });
  own.connect().catch(() => {});
  return {
    get isUp() {
      return own.status === 'ready';
    },
    send: ([name, ...args], { timeout }) => {
      if (own.status !== 'ready') return Promise.reject(failure('unsent', 'Redis is not connected'));
      return new Promise((resolve, reject) => {
        const timer = setTimeout(
          () => reject(failure('unanswered', 'Redis did not answer in time')),
          timeout,
        );
        own.call(name as string, ...args).then(
          (reply) => {
            clearTimeout(timer);
            resolve(reply as RedisReply);
          },
          (error: Error) => {
            clearTimeout(timer);
            if (error.name !== 'ReplyError') reject(failure('unanswered', error.message));
            else reject(failure('reply', error.message, error.message.split(' ')[0]));
          },
        );
      });
    },
    close: () => {
      isClosed = true;
      own.disconnect();
    },
  };
}
