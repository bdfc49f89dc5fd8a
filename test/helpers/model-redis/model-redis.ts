// A model of Redis for nodes that share one, in memory: servers, the ways to them, and all that can go wrong.
//
//     const redis = new ModelRedis();
//     const log = new RedisLog(redis.client('node 1'));
//     redis.failOver({ lost: 2 });                   a replica takes over, which lacks the last two writes

import { createHash } from 'node:crypto';
import { type Direction, type Fate, ModelClient, type Session, type Way } from './client.ts';
import type { Failure, Reply } from './reply.ts';
import { NO_REPLID, Server } from './server.ts';

export interface ModelRedisOptions {
  /** Default: no time passes between a request, its effect and its answer, but turns for promises. */
  readonly network?: RedisNetwork | undefined;
  /** Runs what happens in a server, apart from the node that caused it. */
  readonly outside?: (<T>(act: () => T) => T) | undefined;
}

/** A {@link Way} of each node. */
export interface RedisNetwork {
  delay?(node: string, direction: Direction): number;
  fate?(node: string, command: readonly string[]): Fate;
  wakes?(node: string): boolean;
  /** Default 20. */
  readonly stuckTime?: number | undefined;
}

interface Node {
  server: Server;
  isConnected: boolean;
  readonly sessions: Set<Session>;
}

export class ModelRedis {
  network: RedisNetwork | undefined;
  readonly #outside: <T>(act: () => T) => T;
  readonly #nodes: Map<string, Node> = new Map();
  #primary: Server;
  #minority: Server | undefined;
  #ids = 0;
  #lastTime = 0;

  constructor({ network, outside = (act) => act() }: ModelRedisOptions = {}) {
    this.network = network;
    this.#outside = outside;
    this.#primary = this.#newServer();
  }

  /** The client of a node. One that was there before has crashed, or was closed. */
  client(name: string): ModelClient {
    this.crash(name);
    const node: Node = { server: this.#primary, isConnected: true, sessions: new Set() };
    this.#nodes.set(name, node);
    const isThere = (): boolean => this.#nodes.get(name) === node && node.isConnected;
    return new ModelClient({
      way: this.#wayOf(name),
      server: () => (isThere() ? node.server : undefined),
      sessions: node.sessions,
    });
  }

  get primary(): Server {
    return this.#primary;
  }

  /** The old primary, during a split. */
  get minority(): Server | undefined {
    return this.#minority;
  }

  /** Runs a command on the primary, as somebody else does. */
  do(...command: readonly string[]): Reply | Failure {
    return this.#outside(() => this.#primary.execute(command));
  }

  // ── faults ──────────────────────────────────────────────────────────────────────────────────────────────

  /** Cuts a node off, or all. What was sent and not answered may have happened. */
  disconnect(name?: string): void {
    for (const node of this.#named(name)) {
      node.isConnected = false;
      this.#cut(node);
    }
  }

  /** From now on a node can connect again, when it next tries to. */
  reconnect(name?: string): void {
    for (const node of this.#named(name)) node.isConnected = true;
  }

  /** The process of a node is gone: nothing reaches it any more. */
  crash(name: string): void {
    const node = this.#nodes.get(name);
    this.#nodes.delete(name);
    for (const session of [...(node?.sessions ?? [])]) session.vanish();
  }

  /** A replica takes over that lacks the last writes. All nodes have to connect again. */
  failOver({ lost = 0 }: { readonly lost?: number } = {}): void {
    const old = this.#primary;
    this.#replace(this.#copy(old, lost));
    this.#primary.replid2 = old.replid;
  }

  /** The primary starts again, without its last writes. */
  restart({ lost = 0 }: { readonly lost?: number } = {}): void {
    this.#replace(this.#copy(this.#primary, lost));
  }

  /** The primary gets another replid, although nothing is lost, as when its first replica attaches. */
  renameOrder(): void {
    this.#primary.replid = this.#newId();
    this.#primary.replid2 = NO_REPLID;
  }

  /** A replica takes over that lacks the last writes, while some nodes go on with the old primary. */
  split({ lost = 0, minority }: { readonly lost?: number; readonly minority: readonly string[] }): void {
    this.heal();
    const old = this.#primary;
    this.#primary = this.#copy(old, lost);
    this.#primary.replid2 = old.replid;
    this.#minority = old;
    for (const [name, node] of this.#nodes) if (!minority.includes(name)) this.#move(node);
  }

  /**
   * The old primary takes all from the new one. The nodes that were with it have to connect again, unless it is kept:
   * then they find out by themselves that it is a replica, perhaps one that lags for good.
   */
  heal({ isKept = false, lags = false }: { readonly isKept?: boolean; readonly lags?: boolean } = {}): void {
    const old = this.#minority;
    if (old === undefined) return;
    this.#minority = undefined;
    if (isKept) old.follow(this.#primary, { lags });
    else old.stop();
    for (const node of this.#nodes.values()) {
      if (node.server !== old) continue;
      if (isKept) node.server = this.#primary;
      else this.#move(node);
    }
  }

  #replace(server: Server): void {
    this.#primary.stop();
    this.#primary = server;
    this.#minority = undefined;
    for (const node of this.#nodes.values()) this.#move(node);
  }

  #move(node: Node): void {
    node.server = this.#primary;
    this.#cut(node);
  }

  #cut({ sessions }: Node): void {
    for (const session of [...sessions]) session.close();
  }

  #named(name: string | undefined): Node[] {
    if (name === undefined) return [...this.#nodes.values()];
    const node = this.#nodes.get(name);
    return node === undefined ? [] : [node];
  }

  // ── servers ─────────────────────────────────────────────────────────────────────────────────────────────

  #wayOf(name: string): Way {
    return {
      delay: (direction) => this.network?.delay?.(name, direction),
      fate: (command) => this.network?.fate?.(name, command) ?? 'done',
      wakes: () => this.network?.wakes?.(name) ?? true,
      stuckTime: () => this.network?.stuckTime ?? 20,
      outside: this.#outside,
    };
  }

  #newServer(): Server {
    return new Server({ runId: this.#newId(), replid: this.#newId() }, () => this.#time());
  }

  #newId(): string {
    return createHash('sha1')
      .update(`${++this.#ids}`)
      .digest('hex');
  }

  /** Microseconds, never the same twice. */
  #time(): number {
    this.#lastTime = Math.max(Math.floor(Date.now() * 1000), this.#lastTime + 1);
    return this.#lastTime;
  }

  #copy(old: Server, lost: number): Server {
    const copy = this.#newServer();
    for (const write of old.writes.slice(0, Math.max(0, old.writes.length - lost))) copy.apply(write);
    return copy;
  }
}
