// Names the numbers of a server for Prometheus: streams, refusals, events, gaps, lag, memory.
// Needs `metrics.ts` beside it.

import type { Registry, Sample } from './metrics.ts';

/** What is read, each when somebody asks for the metrics; nothing is counted here. */
export interface Instrumented {
  readonly hub: {
    readonly size: number;
    readonly historyBytes: number;
    readonly stats: {
      readonly published: number;
      readonly publishedBytes: number;
      readonly delivered: number;
      readonly deliveredBytes: number;
      readonly resumed: number;
      readonly started: number;
      readonly gaps: Readonly<Record<string, number>>;
    };
    topics(): readonly unknown[];
    subscriptions(): Iterable<{ readonly lag: number }>;
  };
  readonly streams: Iterable<{ readonly writableLength: number; readonly writableNeedDrain: boolean }>;
  /** How many streams have opened, and how many have closed for which reason. */
  readonly opened: () => number;
  readonly closed: Readonly<Record<string, number>>;
  /** How many requests were refused for which reason: by the guard, for want of a permission, and by the limits. */
  readonly refused: () => Readonly<Record<string, number>>;
  readonly limit: {
    readonly stats: {
      readonly open: number;
      readonly peak: number;
      readonly waiting: number;
      readonly keys: number;
    };
  };
  readonly heartbeat?:
    | {
        readonly sent: () => number;
        readonly skipped: () => number;
        readonly intervals: () => readonly number[];
      }
    | undefined;
  readonly isDraining: () => boolean;
}

/** What is no id of this hub's order begins with a gap. */
const NO_PLACE = ['unknown-epoch', 'ahead', 'malformed'];

function outcomes({ resumed, started, gaps }: Instrumented['hub']['stats']): Record<string, number> {
  const lost = NO_PLACE.reduce((sum, reason) => sum + (gaps[reason] ?? 0), 0);
  return { resumed: resumed - lost, lost, started };
}

/** Registers every family. Labels are reasons and outcomes of our own, never what a client sent. */
export function instrument(registry: Registry, { hub, heartbeat, ...server }: Instrumented): Registry {
  const { stats } = hub;
  registry
    .gauge('sluice_streams_open', 'Streams that are open.', () => hub.size)
    .counter('sluice_streams_opened_total', 'Streams that were opened.', server.opened)
    .counter('sluice_streams_closed_total', 'Streams that are over, by the reason.', () =>
      by('reason', server.closed),
    )
    .counter('sluice_refused_total', 'Requests turned away at the door, by the reason.', () =>
      by('reason', server.refused()),
    )
    .gauge('sluice_connections', 'Connections that hold a permit.', () => server.limit.stats.open)
    .gauge('sluice_connections_peak', 'The most permits ever held at once.', () => server.limit.stats.peak)
    .gauge(
      'sluice_connections_waiting',
      'Those who wait for a permit, where others share them.',
      () => server.limit.stats.waiting,
    )
    .gauge('sluice_connection_keys', 'Clients that the limiter knows now.', () => server.limit.stats.keys)
    .counter('sluice_published_events_total', 'Events published.', () => stats.published)
    .counter('sluice_published_bytes_total', 'Their bytes on the wire.', () => stats.publishedBytes)
    .counter('sluice_delivered_events_total', 'Events handed to streams.', () => stats.delivered)
    .counter('sluice_delivered_bytes_total', 'Their bytes on the wire.', () => stats.deliveredBytes)
    .counter(
      'sluice_subscriptions_total',
      'Streams that came to a topic: resumed after an id, with one that is not known here, or new.',
      () => by('outcome', outcomes(stats)),
    )
    .counter('sluice_gaps_total', 'Gaps told to clients, by the reason.', () => by('reason', stats.gaps))
    .gauge('sluice_topics', 'Topics that are remembered or followed.', () => hub.topics().length)
    .gauge('sluice_history_bytes', 'What all topics together remember.', () => hub.historyBytes)
    .gauge('sluice_lag_max_events', 'How far the slowest stream is behind.', () =>
      max(hub.subscriptions(), ({ lag }) => lag),
    )
    .gauge('sluice_streams_behind', 'Streams that have not been sent everything yet.', () =>
      count(hub.subscriptions(), ({ lag }) => lag > 0),
    )
    .gauge('sluice_streams_full', 'Streams whose clients take nothing at the moment.', () =>
      count(server.streams, (stream) => stream.writableNeedDrain),
    )
    .gauge('sluice_buffered_bytes', 'Bytes that wait in this process for clients.', () =>
      sum(server.streams, (stream) => stream.writableLength),
    )
    .gauge('sluice_draining', '1 while the server is stopping.', () => Number(server.isDraining()));
  if (heartbeat !== undefined) {
    const { sent, skipped, intervals } = heartbeat;
    registry
      .gauge(
        'sluice_heartbeat_interval_seconds',
        'The longest silence of a stream: the bounds of all that are in use.',
        () => {
          const seconds = intervals().map((interval) => interval / 1000);
          return seconds.length === 0
            ? []
            : by('bound', { min: Math.min(...seconds), max: Math.max(...seconds) });
        },
      )
      .counter('sluice_heartbeats_total', 'Heartbeats, sent or skipped because the stream was full.', () =>
        by('outcome', { sent: sent(), skipped: skipped() }),
      );
  }
  return registry;
}

function by(label: string, counts: Readonly<Record<string, number>>): Sample[] {
  return Object.entries(counts).map(([value, number]) => [{ [label]: value }, number]);
}

function max<T>(items: Iterable<T>, of: (item: T) => number): number {
  let most = 0;
  for (const item of items) most = Math.max(most, of(item));
  return most;
}

function sum<T>(items: Iterable<T>, of: (item: T) => number): number {
  let total = 0;
  for (const item of items) total += of(item);
  return total;
}

function count<T>(items: Iterable<T>, is: (item: T) => boolean): number {
  return sum(items, (item) => Number(is(item)));
}
