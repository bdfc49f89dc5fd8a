// Reads topics over HTTP as a browser does: from any node, and after a cut from where it was. Keeps what it received
// as the checker of the simulation takes it.

import http, { type IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { createParser } from 'eventsource-parser';
import { type EventId, parseId, readGap } from '../../../lib/protocol.ts';
import { compare, type Item, type Life } from '../../simulation/nodes/checker.ts';

export interface ChaosReaderOptions {
  readonly name: string;
  readonly topics: readonly string[];
  /** The node for the next connection. */
  readonly node: () => string;
  /** Milliseconds before the next connection. */
  readonly delay: () => number;
  readonly onError: (message: string) => void;
}

/**
 * It drops nothing that arrives twice, which `connect` of the product would: the checker judges what servers send.
 */
export class ChaosReader {
  readonly life: Life;
  /** Heartbeats that have arrived. */
  beats = 0;
  connections = 0;
  /** The streams that have ended without being cut here. */
  losses = 0;
  #lastEventId = '';
  readonly #options: ChaosReaderOptions;
  #response: IncomingMessage | undefined;
  #isCutting = false;
  #isOver = false;
  #done: Promise<void> | undefined;

  constructor(options: ChaosReaderOptions) {
    this.#options = options;
    const { name: client, topics } = options;
    const kind = { conflate: false, start: '', isFromEarlier: false, isForged: false };
    this.life = { client, topics, ...kind, items: [], asks: [], fate: 'running' };
  }

  get name(): string {
    return this.#options.name;
  }

  /** Its place, as far as the servers have said. */
  get place(): EventId | undefined {
    return parseId(this.#lastEventId);
  }

  get isOpen(): boolean {
    return this.#response !== undefined;
  }

  /** The gaps that it was sent, from an item on. */
  gaps(from = 0): Extract<Item, { kind: 'gap' }>[] {
    return this.life.items.slice(from).filter((item) => item.kind === 'gap');
  }

  hasReached(id: string): boolean {
    const [place, other] = [this.place, parseId(id)!];
    return place !== undefined && compare(place, other) >= 0;
  }

  start(): void {
    this.#done = this.#run();
  }

  /** Loses its connection, and comes back. */
  cut(): void {
    this.#isCutting = this.#response !== undefined;
    this.#response?.destroy();
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    this.cut();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { delay, onError } = this.#options;
    while (!this.#isOver) {
      try {
        await this.#read();
      } catch (error) {
        // What has a code of the system's is a connection that was cut.
        if ((error as { code?: string }).code === undefined) onError(`${this.name}: ${String(error)}`);
      }
      if (!this.#isCutting) this.losses++;
      this.#isCutting = false;
      if (!this.#isOver) await sleep(delay());
    }
  }

  async #read(): Promise<void> {
    const { topics, node } = this.#options;
    const query = topics.map((topic) => `topic=${topic}`).join('&');
    const headers = this.#lastEventId === '' ? {} : { 'Last-Event-ID': this.#lastEventId };
    this.life.asks.push(performance.now());
    const response = await get(`${node()}/events?${query}`, headers);
    this.connections++;
    if (this.#isOver) return void response.destroy();
    this.#response = response;
    const parser = createParser({
      onEvent: ({ id, event = 'message', data }) => this.#take(event, data, id),
      onComment: () => this.beats++,
      onError: (error) => this.#options.onError(`${this.name}: ${error.message}`),
    });
    try {
      for await (const text of response.setEncoding('utf8')) parser.feed(text as string);
    } finally {
      this.#response = undefined;
    }
  }

  #take(event: string, data: string, id = this.#lastEventId): void {
    if (event === 'sluice:position') this.beats++;
    const item = itemOf(event, data, id);
    if (item === undefined) return this.#options.onError(`${this.name} received ${event}: ${data}`);
    this.life.items.push(item);
    this.#lastEventId = id;
  }
}

async function get(url: string, headers: Record<string, string>): Promise<IncomingMessage> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    http.get(url, { agent: false, headers }, resolve).on('error', reject);
  });
  if (response.statusCode === 200) return response;
  response.destroy();
  throw new Error(`a stream was answered with ${response.statusCode}`);
}

function itemOf(event: string, data: string, id: string): Item | undefined {
  const time = performance.now();
  switch (event) {
    case 'sluice:gap':
      return { kind: 'gap', time, id, ...readGap(data, id) };
    case 'sluice:ready':
      return { kind: 'ready', time, id };
    case 'sluice:position':
      return { kind: 'position', time, id };
    case 'message': {
      const [topic = '', n = ''] = data.split(' ');
      return { kind: 'event', time, id, topic, n: Number(n) };
    }
    default:
      return undefined;
  }
}
