// A stand-in for a client of Redis, and a channel on which several of them hear each other.

import { EventEmitter } from 'node:events';

export type Answer = (command: readonly string[], place: Place) => unknown;
/** Where a stand-in is connected to. */
export interface Place {
  readonly [name: string]: unknown;
  readonly host?: string;
  readonly port?: number;
  readonly password?: string;
}

/** As `ioredis`: what `openRedis` uses of it, and no more. */
export class StandIn extends EventEmitter {
  status = 'wait';
  readonly isCluster: boolean = false;
  readonly options: Place;
  readonly duplicates: StandIn[] = [];
  readonly calls: (readonly string[])[] = [];
  readonly #answer: Answer;
  readonly #connects: (standIn: StandIn) => void;

  constructor(answer: Answer, connects: (standIn: StandIn) => void, options: Place = {}) {
    super();
    this.#answer = answer;
    this.#connects = connects;
    this.options = options;
  }

  channel: Channel | undefined;

  duplicate(options: Place): StandIn {
    const one = new StandIn(this.#answer, this.#connects, { ...this.options, ...options });
    one.channel = this.channel;
    this.duplicates.push(one);
    one.status = 'connecting';
    setImmediate(() => this.#connects(one));
    return one;
  }

  call(...command: readonly string[]): Promise<unknown> {
    this.calls.push(command);
    return Promise.resolve(this.#answer(command, this.options));
  }

  async subscribe(_name: string): Promise<number> {
    this.channel?.listeners.add(this);
    return 1;
  }

  ready(): void {
    this.status = 'ready';
    this.emit('ready');
  }

  lost(error?: Error): void {
    if (error !== undefined) this.emit('error', error);
    this.status = 'end';
    this.emit('close');
    this.emit('end');
  }

  disconnect(): void {
    if (this.status === 'end') return;
    this.status = 'end';
    setImmediate(() => this.lost());
  }
}

export const never: Answer = () => new Promise(() => {});
export const isReady = (standIn: StandIn): void => standIn.ready();
export const isRefused = (standIn: StandIn): void =>
  standIn.lost(new Error('connect ECONNREFUSED 127.0.0.1:6379'));

/** What is published on it reaches all who have subscribed, a turn later. */
export class Channel {
  readonly client: StandIn;
  readonly listeners: Set<StandIn> = new Set();
  /** What becomes of a message. */
  fate: (text: string) => 'arrives' | 'is lost' | 'waits' = () => 'arrives';
  /** Called with each message; what it returns is the reply. */
  reply: (text: string) => unknown = () => 1;
  readonly #late: string[] = [];

  constructor() {
    const answer: Answer = ([name = '', , text = '']) => {
      if (name !== 'PUBLISH') return 'OK';
      const reply = this.reply(text);
      const fate = this.fate(text);
      if (fate === 'arrives') setImmediate(() => this.deliver(text));
      if (fate === 'waits') this.#late.push(text);
      return reply;
    };
    this.client = new StandIn(answer, isReady);
    this.client.channel = this;
  }

  deliver(text: string): void {
    for (const one of [...this.listeners]) if (one.status === 'ready') one.emit('message', 'channel', text);
  }

  /** Delivers what waits. */
  release(): void {
    for (const text of this.#late.splice(0)) this.deliver(text);
  }

  /** Cuts off all who listen. */
  cut(): void {
    for (const one of [...this.listeners]) {
      this.listeners.delete(one);
      one.lost();
    }
  }
}
