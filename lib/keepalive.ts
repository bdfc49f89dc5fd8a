// Keeps the streams of a hub alive: heartbeats with their positions, at a fixed interval or a learned one.
// Needs `adaptive.ts`, `address.ts`, `encode.ts`, `heartbeat.ts` and `protocol.ts` beside it.

import { AdaptiveInterval, type AdaptiveOptions } from './adaptive.ts';
import { addressGroup } from './address.ts';
import { encode } from './encode.ts';
import { Heartbeat, type HeartbeatOptions, type HeartbeatSink, heartbeatProfiles } from './heartbeat.ts';
import { type Controls, checkControls, positionEvent, sentControl } from './protocol.ts';

/** The members of a stream that are used. */
export interface KeepaliveSink extends HeartbeatSink {
  /** Why the stream is over; see `CloseReason`. */
  readonly reason?: string | undefined;
  writeShared(chunk: { readonly bytes: Uint8Array; made: object | undefined }): boolean;
}

export interface KeepaliveOptions<Sink extends KeepaliveSink = KeepaliveSink> extends HeartbeatOptions<Sink> {
  /** Interval and missed heartbeats for one kind of network; see `heartbeatProfiles`. */
  profile?: keyof typeof heartbeatProfiles | undefined;
  /**
   * How many heartbeats may fail to arrive before a client gives the connection up: a whole number, default 2.
   */
  missed?: number | undefined;
  /**
   * Learns, for each group of addresses, the silence after which connections are cut; see `AdaptiveInterval`.
   */
  adaptive?: AdaptiveOptions | true | undefined;
  /** How `sluice:position` is sent: as it is (default), as a comment, or as another event. */
  controls?: Controls | undefined;
}

/** One heartbeat for all streams of a handler. */
export class Keepalive<Sink extends KeepaliveSink> {
  readonly heartbeat: Heartbeat<Sink>;
  /**
   * The figures for a client's watchdog: the longest interval between heartbeats, and how many may be missed.
   */
  readonly terms: { readonly interval: number; readonly missed: number };
  readonly #learned: AdaptiveInterval<string> | undefined;
  readonly #hasOwnBeat: boolean;
  readonly #controls: Controls | undefined;
  #position = '';
  #beat = COMMENT;

  /** @throws {TypeError | RangeError} naming the option that cannot be used. */
  constructor(options: KeepaliveOptions<Sink> = {}) {
    const { profile, adaptive, interval, missed, controls, ...rest } = options;
    checkControls(controls);
    this.#controls = controls;
    const chosen = profile === undefined ? undefined : profileNamed(profile);
    // Only connections that the client or the network ended count as lost: the others reveal nothing about
    // the network.
    const isLost = (sink: Sink): boolean => sink.reason === 'client-gone';
    this.heartbeat = new Heartbeat<Sink>({ interval: interval ?? chosen?.interval, isLost, ...rest });
    this.#hasOwnBeat = rest.event !== undefined || rest.beat !== undefined;
    const learning = adaptive === undefined ? undefined : rangeAround(this.heartbeat.interval, adaptive);
    this.#learned = learning && new AdaptiveInterval<string>(learning);
    this.terms = {
      interval: learning?.maxInterval ?? this.heartbeat.interval,
      missed: checkMissed(missed ?? chosen?.missed ?? 2),
    };
  }

  /**
   * Sends heartbeats to a stream until `delete`.
   * @param subscription - A heartbeat carries its position where that has moved since the last heartbeat, so
   *   that a client of quiet topics that returns later gets no gap for events of other topics.
   * @param address - The client's address. Clients of one address group share the learned interval.
   */
  add(sink: Sink, subscription: { readonly position: string }, address: string | undefined): void {
    const beat = this.#hasOwnBeat ? undefined : new PositionBeat(subscription, this.#beatAt);
    this.heartbeat.add(sink, { beat, group: this.#learned?.group(addressGroup(address ?? '')) });
  }

  delete(sink: Sink): void {
    this.heartbeat.delete(sink);
  }

  /** Returns every interval in use, in milliseconds. */
  intervals(): number[] {
    if (this.#learned === undefined) return [this.heartbeat.interval];
    return Array.from(this.#learned.intervals(), ([, interval]) => interval);
  }

  /** Caches the last chunk: most streams are at one position and share it. */
  readonly #beatAt = (position: string): Chunk => {
    if (position !== this.#position) this.#beat = beatAt(position, this.#controls);
    this.#position = position; // only then, because the line before may throw
    return this.#beat;
  };
}

/** The heartbeats of one stream. A class, because a closure with what it holds takes 72 bytes more (bench/kept.ts). */
class PositionBeat {
  readonly #subscription: { readonly position: string };
  readonly #beatAt: (position: string) => Chunk;
  #told: string;

  constructor(subscription: { readonly position: string }, at: (position: string) => Chunk) {
    this.#subscription = subscription;
    this.#beatAt = at;
    this.#told = subscription.position;
  }

  beat(sink: KeepaliveSink): boolean {
    const { position } = this.#subscription;
    if (position === this.#told) return sink.writeShared(COMMENT);
    this.#told = position;
    return sink.writeShared(this.#beatAt(position));
  }
}

interface Chunk {
  readonly bytes: Uint8Array;
  made: object | undefined;
}

/** The heartbeat of a stream at rest. One chunk serves all streams. */
const COMMENT: Chunk = { bytes: Buffer.from(':\n'), made: undefined };

/** It begins with a comment, so that it does not count as a write where a stream has an `idleTimeout`. */
function beatAt(position: string, controls: Controls | undefined): Chunk {
  const text = encode(sentControl(positionEvent(position), controls));
  return { bytes: Buffer.from(`:\n${text}`), made: undefined };
}

function checkMissed(missed: number): number {
  if (Number.isSafeInteger(missed) && missed >= 0) return missed;
  throw new RangeError(`\`missed\` must be a whole number ≥ 0, got ${String(missed)}`);
}

function profileNamed(profile: keyof typeof heartbeatProfiles): { interval: number; missed: number } {
  if (Object.hasOwn(heartbeatProfiles, profile)) return heartbeatProfiles[profile];
  const names = Object.keys(heartbeatProfiles).join(', ');
  throw new TypeError(`\`profile\` must be one of ${names}, got ${String(profile)}`);
}

/** Bounds that are wide enough for the interval that learning begins with. */
function rangeAround(
  interval: number,
  adaptive: AdaptiveOptions | true,
): AdaptiveOptions & { maxInterval: number } {
  const options = adaptive === true ? {} : adaptive;
  return {
    interval,
    ...options,
    minInterval: options.minInterval ?? Math.min(5000, interval),
    maxInterval: options.maxInterval ?? Math.max(60_000, interval),
  };
}
