// Makes plain connections to Redis out of a program's own client, of `redis` or of `ioredis`.
// Stands alone: copy this file by itself.
//
// The clients connect again by themselves, queue commands while they cannot send them, and send some of them
// twice. A wire does none of this: it is a duplicate of the client, with its host, password and TLS settings,
// that is open once, and is over for good when it closes.

/** A word of a command. */
export type RedisWord = string | Uint8Array;

/** Where a node of a cluster says that a key is. Without a host: where that node itself is. */
export interface RedisAddress {
  readonly host: string | undefined;
  readonly port: number;
}

export interface RedisWireEvents {
  onReady(): void;
  /** It is over, or did not become ready. `reason` is what the client said last; called once. */
  onEnd(reason: unknown): void;
}

/** One connection to one server. */
export interface RedisWire {
  readonly isReady: boolean;
  /** Whether `call` can take back a command that waits to be written. Otherwise it is written at once. */
  readonly canWithdraw: boolean;
  /**
   * Sends a command; replies have the shapes of RESP2. `withdrawal` takes it back, where it was not written, so
   * that the promise rejects within the same turn.
   */
  call(command: readonly RedisWord[], withdrawal: AbortSignal | undefined): Promise<unknown>;
  /** From now on the connection can only listen. Resolves once it does. */
  subscribe(channel: string, onMessage: (message: string) => void): Promise<unknown>;
  /** Another connection with the same settings, to another node of the cluster. */
  reach(address: RedisAddress, events: RedisWireEvents): RedisWire;
  close(): void;
}

/** Opens a connection. */
export type OpenRedisWire = (events: RedisWireEvents) => RedisWire;

/** What connections are made of. */
export interface RedisSource {
  /** Whether replies say to which other node to turn. */
  readonly isCluster: boolean;
  /** Whether Sentinels say which server is the primary. */
  readonly hasSentinels: boolean;
  /** Finds a server to connect to: of a cluster, any of its primaries. Ends when the signal aborts. */
  find(signal: AbortSignal): Promise<OpenRedisWire>;
}

/**
 * Recognises a client by its members.
 * @throws {TypeError} for anything that is not a client, and for one with a `keyPrefix`.
 */
export function redisSourceOf(client: unknown): RedisSource {
  const has = (...names: readonly string[]) =>
    names.every((name) => typeof (Object(client) as Record<string, unknown>)[name] === 'function');
  if (has('call', 'duplicate', 'on', 'disconnect')) return ioSourceOf(client as IoRedis | IoCluster);
  if (has('sendCommand', 'connect', 'destroy', 'on')) {
    if (!has('duplicate'))
      throw new TypeError(
        '`client` cannot be duplicated; a Sentinel client of `redis` can from version 6 on',
      );
    if (has('getSentinelNode')) return sentinelSourceOf(client as NodeSentinel);
    return has('nodeClient') ? nodeClusterSourceOf(client as NodeCluster) : nodeSourceOf(client as NodeRedis);
  }
  throw new TypeError(
    `\`client\` must be a client of \`redis\` or \`ioredis\`, version 5 or 6, got ${nameOf(client)}`,
  );
}

/** Never its content: that may be a URL with a password. */
function nameOf(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (typeof value !== 'object') return `a ${typeof value}`;
  return `an instance of ${Object.getPrototypeOf(value)?.constructor?.name ?? 'no class'}`;
}

/** Two programs that differ in their prefix alone would share a hub if it were ignored. */
function refuseKeyPrefix(prefix: unknown): void {
  if (prefix === undefined || prefix === null || String(prefix) === '') return;
  throw new TypeError(
    '`client` must not have a `keyPrefix`: scripts name their keys in full. Give the hub a `name` instead',
  );
}

function anyOf<T>(list: readonly T[], what: string): T {
  const one = list[Math.floor(Math.random() * list.length)];
  if (one === undefined) throw new Error(`the cluster has no ${what}`);
  return one;
}

function bufferOf(word: Uint8Array): Buffer {
  return Buffer.isBuffer(word) ? word : Buffer.from(word.buffer, word.byteOffset, word.byteLength);
}

// ── ioredis ───────────────────────────────────────────────────────────────────────────────────────────────

/** What is used of a `Redis` of `ioredis`. */
interface IoRedis {
  readonly isCluster?: boolean;
  readonly status: string;
  /** Its socket, which may be half closed while the status is still `ready`. */
  readonly stream?: { readonly writable?: boolean } | undefined;
  readonly options?: { readonly keyPrefix?: unknown; readonly sentinels?: unknown };
  call(...command: readonly (string | Buffer)[]): Promise<unknown>;
  subscribe?(channel: string): Promise<unknown>;
  duplicate(options: Readonly<Record<string, unknown>>): IoRedis;
  on(event: string, listener: (...values: never[]) => void): unknown;
  disconnect(): void;
}

/** What is used of a `Cluster` of `ioredis`. */
interface IoCluster {
  readonly isCluster: true;
  readonly options?: { readonly keyPrefix?: unknown; readonly natMap?: unknown };
  nodes(role: 'master'): readonly IoRedis[];
  duplicate(nodes: readonly never[], options: Readonly<Record<string, unknown>>): IoCluster;
  on(event: string, listener: (...values: never[]) => void): unknown;
  disconnect(): void;
}

const IO_SETTINGS = {
  lazyConnect: false,
  // Nothing is sent later, or again, and no failure is kept back.
  retryStrategy: null,
  sentinelRetryStrategy: null,
  maxRetriesPerRequest: null,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  reconnectOnError: null,
  enableAutoPipelining: false,
  // It is ready once the server has loaded its data.
  enableReadyCheck: true,
  // Commands that block may take longer than the program's own.
  commandTimeout: undefined,
  socketTimeout: undefined,
  blockingTimeout: undefined,
  // The shapes of replies.
  protocol: 2,
  replyMapping: 'legacy',
  stringNumbers: false,
  // Only a primary will do.
  role: 'master',
  readOnly: false,
  monitor: false,
  himportFieldsets: undefined,
  // `disconnect` lets go of the socket at once.
  disconnectTimeout: 0,
};

function ioSourceOf(client: IoRedis | IoCluster): RedisSource {
  refuseKeyPrefix(client.options?.keyPrefix);
  if (client.isCluster === true)
    return {
      isCluster: true,
      hasSentinels: false,
      find: (signal) => findIoNode(client as IoCluster, signal),
    };
  const redis = client as IoRedis;
  const open: OpenRedisWire = (events) => openIo(redis, {}, undefined, events);
  const hasSentinels = Array.isArray(redis.options?.sentinels);
  return { isCluster: false, hasSentinels, find: () => Promise.resolve(open) };
}

function openIo(
  client: IoRedis,
  place: Readonly<Record<string, unknown>>,
  natMap: unknown,
  events: RedisWireEvents,
): RedisWire {
  const redis = client.duplicate({ ...IO_SETTINGS, ...place });
  const end = once((reason: unknown) => {
    redis.disconnect();
    events.onEnd(reason);
  });
  let reason: unknown;
  let wasReady = false;
  redis.on('ready', () => {
    wasReady = true;
    events.onReady();
  });
  redis.on('error', (error: unknown) => {
    reason = error;
    // Such as a database that does not exist: it would go on in another one.
    if (!wasReady) end(error);
  });
  for (const event of ['close', 'end']) redis.on(event, () => end(reason));
  return {
    get isReady() {
      return redis.status === 'ready' && redis.stream?.writable !== false;
    },
    canWithdraw: false,
    call([name, ...words]) {
      // In capitals, so that no transformer of replies is found for it.
      const command = typeof name === 'string' ? name.toUpperCase() : bufferOf(name as Uint8Array).toString();
      return redis.call(command, ...words.map((word) => (typeof word === 'string' ? word : bufferOf(word))));
    },
    subscribe(channel, onMessage) {
      redis.on('message', (_channel: string, message: string) => onMessage(message));
      return redis.subscribe!(channel);
    },
    reach: ({ host, port }, heard) => {
      const address = host === undefined ? { port } : mapped(natMap, { host, port });
      return openIo(redis, address, natMap, heard);
    },
    close: () => end(undefined),
  };
}

/** Where a node is for this program, by the map that its client has for addresses. */
function mapped(map: unknown, address: { host: string; port: number }): { host: string; port: number } {
  const key = `${address.host}:${address.port}`;
  const found = typeof map === 'function' ? map(key) : (Object(map) as Record<string, unknown>)[key];
  return found ?? address;
}

/** Has a duplicate of the client learn the nodes of the cluster, and takes one that it knows then. */
async function findIoNode(client: IoCluster, signal: AbortSignal): Promise<OpenRedisWire> {
  const cluster = client.duplicate([], {
    lazyConnect: false,
    enableReadyCheck: false,
    enableOfflineQueue: false,
    clusterRetryStrategy: null,
    slotsRefreshInterval: undefined,
    shardedSubscribers: false,
    scaleReads: 'master',
    himportFieldsets: undefined,
  });
  try {
    await new Promise<void>((resolve, reject) => {
      let reason: unknown;
      cluster.on('error', (error: { readonly lastNodeError?: unknown }) => {
        reason = error.lastNodeError ?? error;
      });
      cluster.on('ready', () => resolve());
      cluster.on('end', () => reject(reason));
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    const node = anyOf(cluster.nodes('master'), 'primary');
    return (events) => openIo(node, {}, client.options?.natMap, events);
  } finally {
    cluster.disconnect();
  }
}

// ── redis ─────────────────────────────────────────────────────────────────────────────────────────────────

/** What is used of a client that `createClient` of `redis` makes. */
interface NodeRedis {
  readonly isReady: boolean;
  readonly options?: NodeOptions | undefined;
  connect(): Promise<unknown>;
  sendCommand(
    command: readonly (string | Buffer)[],
    options: { readonly abortSignal?: AbortSignal | undefined },
  ): Promise<unknown>;
  subscribe(channel: string, onMessage: (message: string) => void): Promise<unknown>;
  duplicate(options: Readonly<Record<string, unknown>>): NodeRedis;
  on(event: string, listener: (...values: never[]) => void): unknown;
  destroy(): void;
}

interface NodeOptions {
  readonly keyPrefix?: unknown;
  readonly socket?: Readonly<Record<string, unknown>> | undefined;
  readonly defaults?: NodeOptions | undefined;
  readonly nodeAddressMap?: unknown;
}

/** What is used of a client that `createCluster` of `redis` makes. */
interface NodeCluster {
  /** Not documented, but the only place where its settings can be seen. */
  readonly _options?: NodeOptions;
  readonly masters: readonly object[];
  connect(): Promise<unknown>;
  nodeClient(node: object): Promise<NodeRedis>;
  duplicate(options: Readonly<Record<string, unknown>>): NodeCluster;
  on(event: string, listener: (...values: never[]) => void): unknown;
  destroy(): void;
}

const NODE_SETTINGS = {
  // Its parts are among the other options since the client was made.
  url: undefined,
  // Nothing is sent later.
  disableOfflineQueue: true,
  commandsQueueMaxLength: undefined,
  commandOptions: { timeout: undefined },
  // A PING would wait behind a command that blocks.
  pingInterval: undefined,
  // The shapes of replies, and what needs RESP3.
  RESP: 2,
  clientSideCache: undefined,
  emitInvalidate: undefined,
  maintNotifications: 'disabled',
  // Only a primary will do.
  readonly: false,
};

const SOCKET_SETTINGS = { reconnectStrategy: false, socketTimeout: undefined };

function nodeSourceOf(client: NodeRedis): RedisSource {
  refuseKeyPrefix(client.options?.keyPrefix);
  const open: OpenRedisWire = (events) => openNode(client, {}, undefined, events);
  return { isCluster: false, hasSentinels: false, find: () => Promise.resolve(open) };
}

function openNode(
  client: NodeRedis,
  place: Readonly<Record<string, unknown>>,
  addressMap: unknown,
  events: RedisWireEvents,
): RedisWire {
  const socket = { ...client.options?.socket, ...SOCKET_SETTINGS, ...place };
  const redis = client.duplicate({ ...NODE_SETTINGS, socket });
  const end = once((reason: unknown) => {
    destroy(redis);
    events.onEnd(reason);
  });
  // Without a strategy for reconnecting, each error is the last one.
  redis.on('error', end);
  redis.connect().then(() => events.onReady(), end);
  return {
    get isReady() {
      return redis.isReady;
    },
    canWithdraw: true,
    call: (command, abortSignal) => redis.sendCommand(wordsOf(command), { abortSignal }),
    subscribe: (channel, onMessage) => redis.subscribe(channel, onMessage),
    reach: ({ host, port }, heard) => {
      const address = host === undefined ? { port } : mapped(addressMap, { host, port });
      return openNode(redis, address, addressMap, heard);
    },
    close: () => end(undefined),
  };
}

function wordsOf(command: readonly RedisWord[]): (string | Buffer)[] {
  return command.map((word) => (typeof word === 'string' ? word : bufferOf(word)));
}

/** It throws where the connection is over already. */
function destroy(client: { destroy(): unknown }): void {
  try {
    // That of a Sentinel answers with a promise.
    Promise.resolve(client.destroy()).catch(() => {});
  } catch {}
}

// A node that accepts and says nothing would hold a search up for good, and its socket with it.
const SILENCE_TIMEOUT = 3000;

function nodeClusterSourceOf(client: NodeCluster): RedisSource {
  refuseKeyPrefix(client._options?.keyPrefix ?? client._options?.defaults?.keyPrefix);
  return { isCluster: true, hasSentinels: false, find: (signal) => findNode(client, signal) };
}

async function findNode(client: NodeCluster, signal: AbortSignal): Promise<OpenRedisWire> {
  const { defaults, nodeAddressMap } = client._options ?? {};
  const socket = { ...defaults?.socket, reconnectStrategy: false, socketTimeout: SILENCE_TIMEOUT };
  const cluster = client.duplicate({
    RESP: 2,
    minimizeConnections: true,
    useReplicas: false,
    clientSideCache: undefined,
    defaults: { ...defaults, ...NODE_SETTINGS, socket },
  });
  let reason: unknown;
  cluster.on('error', (error: unknown) => {
    reason = error;
  });
  const stop = () => destroy(cluster);
  signal.addEventListener('abort', stop, { once: true });
  try {
    await cluster.connect();
    const node = await cluster.nodeClient(anyOf(cluster.masters, 'primary'));
    return (events) => openNode(node, {}, nodeAddressMap, events);
  } catch (error) {
    throw reason ?? error;
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
  }
}

// ── Sentinels of redis ────────────────────────────────────────────────────────────────────────────────────

/** What is used of a client that `createSentinel` of `redis` makes. */
interface NodeSentinel {
  readonly _keyPrefix?: unknown;
  readonly isReady: boolean;
  connect(): Promise<unknown>;
  sendCommand(
    isReadonly: boolean,
    command: readonly (string | Buffer)[],
    options: { readonly abortSignal?: AbortSignal | undefined },
  ): Promise<unknown>;
  subscribe(channel: string, onMessage: (message: string) => void): Promise<unknown>;
  duplicate(options: Readonly<Record<string, unknown>>): NodeSentinel;
  on(event: string, listener: (...values: never[]) => void): unknown;
  destroy(): Promise<unknown>;
}

const SENTINEL_SETTINGS = {
  RESP: 2,
  masterPoolSize: 1,
  replicaPoolSize: 0,
  reserveClient: true,
  scanInterval: 0,
  // It would send a command again whose connection broke.
  maxCommandRediscovers: 0,
  passthroughClientErrorEvents: false,
  clientSideCache: undefined,
  commandOptions: { timeout: undefined },
};

function sentinelSourceOf(client: NodeSentinel): RedisSource {
  refuseKeyPrefix(client._keyPrefix);
  const open: OpenRedisWire = (events) => openSentinel(client, events);
  return { isCluster: false, hasSentinels: true, find: () => Promise.resolve(open) };
}

/** The client finds the primary. When that one is lost, or another one is named, the wire is over. */
function openSentinel(client: NodeSentinel, events: RedisWireEvents): RedisWire {
  const redis = client.duplicate(SENTINEL_SETTINGS);
  let isReady = false;
  const end = once((reason: unknown) => {
    isReady = false;
    destroy(redis);
    events.onEnd(reason);
  });
  redis.on('error', end);
  redis.on('client-error', ({ type, error }: { type: string; error: unknown }) => {
    if (type === 'MASTER') end(error);
  });
  redis.on('topology-change', ({ type }: { type: string }) => {
    if (isReady && type === 'MASTER_CHANGE') end(new Error('Sentinel names another primary'));
  });
  const open = async () => {
    await redis.connect();
    // The options of its connections cannot be seen; they may ask for RESP3.
    await redis.sendCommand(false, ['HELLO', '2'], {});
    isReady = true;
    events.onReady();
  };
  open().catch(end);
  return {
    get isReady() {
      return isReady && redis.isReady;
    },
    canWithdraw: true,
    call: (command, abortSignal) => redis.sendCommand(false, wordsOf(command), { abortSignal }),
    subscribe: (channel, onMessage) => redis.subscribe(channel, onMessage),
    reach() {
      throw new Error('a Sentinel knows no nodes of a cluster');
    },
    close: () => end(undefined),
  };
}

/** A function that does something the first time that it is called. */
function once<T>(act: (value: T) => void): (value: T) => void {
  let isDone = false;
  return (value) => {
    if (isDone) return;
    isDone = true;
    act(value);
  };
}
