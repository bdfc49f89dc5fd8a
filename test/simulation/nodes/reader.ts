// A client process: reads its topics with the product's client, stores its place, crashes and comes back.

import { connect } from '../../../lib/client.ts';
import { readGap } from '../../../lib/protocol.ts';
import type { Transport } from '../../../lib/transport.ts';
import type { Chance } from './chance.ts';
import type { Item, Life } from './checker.ts';
import type { Clock, Process } from './clock.ts';

export interface ReaderPlan {
  readonly name: string;
  readonly topics: readonly string[];
  readonly conflate: boolean;
  /** Milliseconds for one event, where it is slow. */
  readonly slowness: number;
  /** When it stores its place: after an event was processed, before that, or never. */
  readonly persists: 'late' | 'early' | 'never';
  /** Where it begins without a place. */
  readonly from: '' | 'earliest' | 'last';
}

export interface ReaderWorld {
  readonly clock: Clock;
  readonly chance: Chance;
  readonly lives: Life[];
  /** From here on everybody is as fast as he can. */
  isCalm(): boolean;
  transportFor(reader: Reader): Transport;
  tell(who: string, line: () => string): void;
  onItem(reader: Reader, item: Item): void;
}

export class Reader {
  readonly plan: ReaderPlan;
  readonly #world: ReaderWorld;
  /** Its disk, which survives it. */
  stored = '';
  #lives = 0;
  process: Process | undefined;
  life: Life | undefined;
  #close: () => void = () => {};
  /** Its latest place comes from a control event. */
  isAtControl = false;
  /** It has stored a place that its application had not processed. */
  isEarly = false;
  #forged: string | undefined;

  constructor(plan: ReaderPlan, world: ReaderWorld) {
    this.plan = plan;
    this.#world = world;
  }

  get name(): string {
    return this.plan.name;
  }

  /** Whether it has nothing to expect any more. */
  get isOver(): boolean {
    return this.life !== undefined && this.life.fate !== 'running' && this.life.fate !== 'crashed';
  }

  start(): void {
    const { clock, chance, lives } = this.#world;
    const { name, topics, conflate } = this.plan;
    const process = { name, isDead: false, random: chance.numbers(`${name} ${++this.#lives}`) };
    const start = this.plan.persists === 'never' ? '' : this.stored;
    const life: Life = {
      client: name,
      topics,
      conflate,
      start,
      isFromEarlier: start === '' && this.plan.from !== '',
      isForged: this.plan.persists !== 'never' && this.stored === this.#forged,
      items: [],
      asks: [],
      fate: 'running',
    };
    this.process = process;
    this.life = life;
    lives.push(life);
    this.#world.tell(
      name,
      () => `starts at ${life.start || 'no place'}${life.isForged ? ', which is forged' : ''}`,
    );
    void clock.as(process, () => this.#read(life));
  }

  crash(): void {
    if (this.process === undefined || this.process.isDead) return;
    this.process.isDead = true;
    if (this.life?.fate === 'running') this.life.fate = 'crashed';
    this.#world.tell(this.name, () => `crashes; stored is ${this.stored || 'nothing'}`);
    this.#world.clock.outside(() => this.#close());
  }

  /** Puts a place on its disk that it did not get from there. */
  forge(id: string): void {
    this.stored = id;
    this.#forged = id;
  }

  async #read(life: Life): Promise<void> {
    const { topics, conflate, persists, slowness, from } = this.plan;
    const world = this.#world;
    const query = topics.map((topic) => `topic=${topic}`).join('&');
    const beginning = from === '' ? '' : from === 'earliest' ? '&from=earliest' : '&last=2';
    const process = this.process!;
    const connection = connect(
      `http://sluice.test/events?${query}${conflate ? '&conflate=1' : ''}${beginning}`,
      {
        transport: world.transportFor(this),
        headers: { 'x-client': this.name },
        controlEvents: true,
        backoffDelay: 100,
        maxBackoffDelay: 500,
        minRetryDelay: 20,
        connectTimeout: 3000,
        onError: () => {},
        ...(persists === 'never' ? {} : { storage: this.#storage(process), storageKey: 'place' }),
      },
    );
    this.#close = () => connection.close();
    try {
      for await (const { event, data, id = '', lastEventId } of connection) {
        if (process.isDead) return;
        const item = itemOf(event, data, id || lastEventId, world.clock.time);
        life.items.push(item);
        this.isAtControl = item.kind !== 'event';
        world.onItem(this, item);
        if (persists === 'early' && item.kind === 'event') {
          this.isEarly = true;
          await connection.commit();
        }
        if (slowness > 0 && !world.isCalm()) await new Promise((resolve) => setTimeout(resolve, slowness));
        this.isEarly = false;
        if (process.isDead) return;
      }
      if (process.isDead) return;
      const hasEnded = life.items.at(-1)?.kind === 'end';
      if (life.fate === 'running') life.fate = hasEnded ? 'ended' : 'finished';
      world.tell(this.name, () => `is done: ${hasEnded ? 'the topics have ended' : 'nothing is left'}`);
    } catch (error) {
      if (process.isDead) return;
      life.fate = 'refused';
      world.tell(this.name, () => `gives up: ${(error as Error).message}`);
      if (!/ 40[13]/.test((error as Error).message)) throw error;
    }
  }

  /** A disk that takes a while: what was not written when the process crashes is lost. */
  #storage(process: Process): { getItem(): string; setItem(key: string, value: string): Promise<void> } {
    const chance = this.#world.chance.stream(`disk of ${this.name}`);
    return {
      getItem: () => this.stored,
      setItem: async (_, value) => {
        const delay = chance.of(0.3) ? chance.below(30) : 0;
        if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
        if (!process.isDead) this.stored = value;
      },
    };
  }
}

function itemOf(event: string, data: string, id: string, time: number): Item {
  switch (event) {
    case 'sluice:gap':
      return { kind: 'gap', time, id, ...readGap(data, id) };
    case 'sluice:ready':
      return { kind: 'ready', time, id };
    case 'sluice:position':
      return { kind: 'position', time, id };
    case 'sluice:end':
      return { kind: 'end', time, id };
    case 'message': {
      const [topic = '', n = ''] = data.split(' ');
      return { kind: 'event', time, id, topic, n: Number(n) };
    }
    default:
      throw new Error(`a client received ${event}: ${data}`);
  }
}
