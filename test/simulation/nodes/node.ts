// A node: a hub behind its HTTP handler, in a simulated process that can crash.

import { createServer, type Server } from 'node:http';
import { type EventsHandler, serveEvents } from '../../../lib/events.ts';
import { Hub, type HubOptions } from '../../../lib/hub.ts';
import type { Chance } from './chance.ts';
import type { Clock, Process } from './clock.ts';
import type { Connection, Peer, Wire } from './net.ts';

export interface NodeWorld {
  readonly clock: Clock;
  readonly chance: Chance;
  hubOptions(node: SimNode): HubOptions;
  may(client: string, topic: string): boolean;
  tell(who: string, line: () => string): void;
  onConnection(node: SimNode, connection: Connection): void;
  onGone(): void;
}

export class SimNode implements Peer {
  readonly name: string;
  readonly #world: NodeWorld;
  process: Process | undefined;
  hub: Hub | undefined;
  #handler: EventsHandler | undefined;
  #server: Server | undefined;
  #wires: Set<Wire> = new Set();
  #lives = 0;
  isStopping = false;

  constructor(name: string, world: NodeWorld) {
    this.name = name;
    this.#world = world;
  }

  get isUp(): boolean {
    return this.process !== undefined && !this.process.isDead && !this.isStopping;
  }

  start(): void {
    const { clock, chance } = this.#world;
    const process = {
      name: this.name,
      isDead: false,
      random: chance.numbers(`${this.name} ${++this.#lives}`),
    };
    this.process = process;
    this.isStopping = false;
    this.#wires = new Set();
    clock.as(process, () => {
      this.hub = new Hub({ retry: 100, ...this.#world.hubOptions(this) });
      this.#handler = serveEvents<string>(this.hub, {
        heartbeat: { interval: 1500, missed: 1 },
        authorize: (req) => String(req.headers['x-client']),
        may: (client, topic) => this.#world.may(client, topic),
        onError: (error) => this.#world.tell(this.name, () => `fails: ${(error as Error).stack}`),
      });
      this.#server = createServer(this.#handler);
    });
    this.#world.tell(this.name, () => `starts at ${this.hub?.position}`);
  }

  accept(wire: Wire, connection: Connection): void {
    this.#wires.add(wire);
    wire.on('close', () => this.#wires.delete(wire));
    this.#world.onConnection(this, connection);
    this.#server!.emit('connection', wire);
  }

  /** The process is gone, and says nothing to anybody. */
  crash(): void {
    const { process } = this;
    if (process === undefined || process.isDead) return;
    process.isDead = true;
    this.#world.tell(this.name, () => 'crashes');
    for (const { connection } of this.#wires) connection.vanish();
    this.#bury();
    this.#world.onGone();
  }

  /** Ends its streams in an orderly way, and then its process. */
  stop(): void {
    if (!this.isUp) return;
    const { process } = this;
    this.isStopping = true;
    this.#world.tell(this.name, () => 'shuts down');
    this.#world.clock.as(process!, () => {
      for (const stream of this.#handler!.streams) stream.end('shutdown');
      setTimeout(() => this.#world.clock.outside(() => this.process === process && this.crash()), 300);
    });
  }

  // The streams of a dead process must not be watched by the timer that all writers of this one share.
  #bury(): void {
    for (const wire of [...this.#wires]) wire.destroy();
  }

  /** Whether a subscription is behind the head. */
  get hasLaggards(): boolean {
    if (!this.isUp) return false;
    for (const { lag } of this.hub!.subscriptions()) if (lag > 0) return true;
    return false;
  }

  kick(): void {
    const { process } = this;
    if (this.isUp) this.#world.clock.as(process!, () => this.hub!.kick(() => true));
  }
}
