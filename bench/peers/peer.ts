// Defines what an adapter of a server under test does. Its default export is a `StartPeer`.

import type { Publisher } from '../loads/turns.ts';

export interface Peer extends Publisher {
  /** On 127.0.0.1. `GET /events?topic=…` follows a topic; `POST /answer` streams tokens to one client. */
  readonly port: number;
  /** Sends each text as one event's data to every follower of the topic, in this turn of the event loop. */
  publish(topic: string, texts: readonly string[]): void;
  /** Floors only: sends each connection a comment once per interval, in milliseconds. */
  beat?(interval: number): void;
}

export interface PeerOptions {
  /** The answer to `POST /answer`: each text is one event's data. */
  readonly tokens: () => AsyncIterable<string>;
  /** The same texts as what `of` makes of them, then `last`. */
  readonly answer: <T>(of: (text: string) => T, last: T) => AsyncIterable<T>;
}

export type StartPeer = (options: PeerOptions) => Promise<Peer>;
