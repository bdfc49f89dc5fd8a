// What every server under test does, each in its own library's way: an adapter is its default export.

export interface Peer {
  /** On 127.0.0.1. `GET /events?topic=…` follows a topic; `POST /answer` streams tokens to one client. */
  readonly port: number;
  /** Sends each text as one event's data to all who follow the topic, in this turn of the event loop. */
  publish(topic: string, texts: readonly string[]): void;
  /** Of a floor: from now on a comment to each connection every so many milliseconds. */
  beat?(interval: number): void;
}

export interface PeerOptions {
  /** What a `POST /answer` streams: each text is one event's data. Ends by itself. */
  readonly tokens: () => AsyncIterable<string>;
}

export type StartPeer = (options: PeerOptions) => Promise<Peer>;
