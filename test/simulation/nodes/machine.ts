// One machine: a process that owns the log, and the connections by which the nodes follow it.

import { Duplex } from 'node:stream';
import type { OwnLog } from '../../../lib/log.ts';
import { Peers } from '../../../lib/log-peers.ts';
import { ProcessesLog } from '../../../lib/processes.ts';
import type { Chance, Stream } from './chance.ts';
import type { Clock, Process } from './clock.ts';

export interface MachineWorld {
  readonly clock: Clock;
  readonly chance: Chance;
  /** Opens the log for an owner that starts. */
  openLog(): OwnLog;
  /** Whether answers are lost just now, with their connection. */
  losesAnswers(): boolean;
}

/** The real owner and the real logs of nodes, on connections in memory. */
export class Machine {
  readonly #world: MachineWorld;
  readonly #links = new Set<Link>();
  /** The nodes that reach nobody. */
  readonly #cutOff = new Set<string>();
  #process: Process | undefined;
  #peers: Peers | undefined;
  #lives = 0;

  constructor(world: MachineWorld) {
    this.#world = world;
  }

  get isUp(): boolean {
    return this.#process?.isDead === false;
  }

  start(): void {
    if (this.isUp) return;
    const { clock, chance } = this.#world;
    const process = { name: 'owner', isDead: false, random: chance.numbers(`owner ${++this.#lives}`) };
    this.#process = process;
    clock.as(process, () => {
      this.#peers = new Peers(this.#world.openLog(), {
        maxMessageBytes: 1024 * 1024,
        // So few that a node which lags falls off.
        maxRecentBytes: chance.stream('recent').pick([2500, 100_000]),
        answers: {},
        onError: () => {},
      });
    });
  }

  /** The process is gone. */
  crash(): void {
    if (this.#process !== undefined) this.#process.isDead = true;
    for (const link of this.#links) link.cut();
  }

  /** Called when the process of a node is gone. */
  bury(): void {
    for (const link of this.#links) if (link.isOver) link.cut();
  }

  disconnect(node: string): void {
    this.#cutOff.add(node);
    for (const link of this.#links) if (link.node === node) link.cut();
  }

  reconnect(node: string): void {
    this.#cutOff.delete(node);
  }

  /** The log of a node, made in its process. */
  open(node: string): ProcessesLog {
    const options = { requestTimeout: 400, checkInterval: 700, minRetryDelay: 10, maxRetryDelay: 100 };
    return new ProcessesLog({ path: '/owner', ...options, connect: () => this.#connect(node) });
  }

  #connect(node: string): Duplex {
    const { clock, chance } = this.#world;
    const owner = this.#process;
    const link = new Link(
      node,
      clock.running!,
      owner,
      chance.stream(`way to the owner of ${node}`),
      this.#world,
    );
    this.#links.add(link);
    link.onOver = () => this.#links.delete(link);
    link.later(() => {
      if (this.#cutOff.has(node) || !this.isUp || owner !== this.#process) return link.cut();
      clock.as(owner!, () => this.#peers!.accept(link.ownersEnd));
    });
    return link.nodesEnd;
  }
}

/** Two ends, and bytes under way between them, in order. */
class Link {
  readonly node: string;
  readonly nodesEnd: End;
  readonly ownersEnd: End;
  onOver = (): void => {};
  readonly #chance: Stream;
  readonly #world: MachineWorld;
  #isCut = false;
  #due = 0;

  constructor(
    node: string,
    process: Process,
    owner: Process | undefined,
    chance: Stream,
    world: MachineWorld,
  ) {
    this.node = node;
    this.#chance = chance;
    this.#world = world;
    this.nodesEnd = new End(this, process);
    this.ownersEnd = new End(this, owner);
    this.nodesEnd.other = this.ownersEnd;
    this.ownersEnd.other = this.nodesEnd;
  }

  get isOver(): boolean {
    return this.nodesEnd.isDead || this.ownersEnd.isDead;
  }

  /** Calls after what was sent before, in neither of the processes. */
  later(act: () => void): void {
    const { clock } = this.#world;
    const delay = this.#chance.of(0.1) ? this.#chance.below(60) : this.#chance.below(4);
    this.#due = Math.max(this.#due, clock.time + delay);
    clock.outside(() => clock.later(this.#due - clock.time, act));
  }

  run(process: Process, act: () => void): void {
    this.#world.clock.as(process, act);
  }

  carry(from: End, chunk: Buffer, done: () => void): void {
    this.later(() => {
      if (this.#isCut) return;
      if (from === this.ownersEnd && this.#world.losesAnswers() && this.#chance.of(0.3)) return this.cut();
      from.other.within(() => from.other.push(chunk));
      from.within(done);
    });
  }

  /** What is under way is lost, and both ends learn of it. */
  cut(): void {
    if (this.#isCut) return;
    this.#isCut = true;
    this.onOver();
    const { clock } = this.#world;
    for (const end of [this.nodesEnd, this.ownersEnd]) {
      clock.outside(() => clock.later(this.#chance.below(20), () => end.within(() => end.destroy())));
    }
  }
}

class End extends Duplex {
  other!: End;
  readonly #link: Link;
  readonly #process: Process | undefined;

  constructor(link: Link, process: Process | undefined) {
    super();
    this.#link = link;
    this.#process = process;
    this.on('error', () => {});
  }

  get isDead(): boolean {
    return this.#process?.isDead !== false;
  }

  /** Does something at this end, unless its process is gone. */
  within(act: () => void): void {
    if (this.#process === undefined || this.isDead) return;
    this.#link.run(this.#process, act);
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#link.carry(this, chunk, done);
  }

  override _final(done: () => void): void {
    done();
    this.#link.later(() => this.other.within(() => this.other.push(null)));
  }

  override _destroy(_error: Error | null, done: () => void): void {
    done();
    this.#link.later(() => this.#link.cut());
  }
}
