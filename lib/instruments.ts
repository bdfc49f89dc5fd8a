// Registers the metrics of a server: streams, refusals, events, gaps, lag, memory.
// Needs `metrics.ts` beside it.

import type { Registry, Sample } from './metrics.ts';

/** The sources of the metrics. Each is read when the page is rendered; nothing is counted here. */
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
  /** How many streams were opened. */
  readonly opened: () => number;
  /** How many streams closed, by reason. */
  readonly closed: Readonly<Record<string, number>>;
  /** How many requests were refused, by reason: by the guard, by authorization and by the limits. */
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

/** The gap reasons of a client whose id is not a position of this hub. */
const NO_POSITION = ['unknown-epoch', 'ahead', 'malformed'];

function outcomes({ resumed, started, gaps }: Instrumented['hub']['stats']): Record<string, number> {
  const lost = NO_POSITION.reduce((sum, reason) => sum + (gaps[reason] ?? 0), 0);
  return { resumed: resumed - lost, lost, started };
}

/** Registers all families. Label values are this library's own words, never text from a client. */
export function instrument(registry: Registry, { hub, heartbeat, ...server }: Instrumented): Registry {
  registry
    .gauge('sluice_streams_open', 'Open streams.', () => hub.size)
    .counter('sluice_streams_opened_total', 'Streams opened.', server.opened)
    .counter('sluice_streams_closed_total', 'Streams closed, by reason.', () => by('reason', server.closed))
    .counter('sluice_refused_total', 'Requests refused, by reason.', () => by('reason', server.refused()))
    .gauge('sluice_connections', 'Connections that hold a permit.', () => server.limit.stats.open)
    .gauge('sluice_connections_peak', 'Most permits ever held at once.', () => server.limit.stats.peak)
    .gauge(
      'sluice_connections_waiting',
      'Waiters for a permit of a shared semaphore.',
      () => server.limit.stats.waiting,
    )
    .gauge('sluice_connection_keys', 'Clients that have a connection.', () => server.limit.stats.keys)
    .counter('sluice_published_events_total', 'Events published.', () => hub.stats.published)
    .counter(
      'sluice_published_bytes_total',
      'Bytes of published events on the wire.',
      () => hub.stats.publishedBytes,
    )
    .counter('sluice_delivered_events_total', 'Events written to streams.', () => hub.stats.delivered)
    .counter(
      'sluice_delivered_bytes_total',
      'Bytes of events written to streams.',
      () => hub.stats.deliveredBytes,
    )
    .counter(
      'sluice_subscriptions_total',
      'Subscriptions: resumed after an id, lost with an unknown id, or started without one.',
      () => by('outcome', outcomes(hub.stats)),
    )
    .counter('sluice_gaps_total', 'Gaps reported to clients, by reason.', () => by('reason', hub.stats.gaps))
    .gauge('sluice_topics', 'Topics with a history or a subscriber.', () => hub.topics().length)
    .gauge('sluice_history_bytes', 'Bytes of the history of all topics.', () => hub.historyBytes)
    .gauge('sluice_lag_max_events', 'Events by which the slowest stream is behind.', () =>
      max(hub.subscriptions(), ({ lag }) => lag),
    )
    .gauge('sluice_streams_behind', 'Streams that are behind.', () =>
      count(hub.subscriptions(), ({ lag }) => lag > 0),
    )
    .gauge('sluice_streams_full', 'Streams whose client takes no more bytes at present.', () =>
      count(server.streams, (stream) => stream.writableNeedDrain),
    )
    .gauge('sluice_buffered_bytes', 'Bytes that wait for clients in this process.', () =>
      sum(server.streams, (stream) => stream.writableLength),
    )
    .gauge('sluice_draining', '1 while the server shuts down.', () => Number(server.isDraining()));
  if (heartbeat !== undefined) {
    const { sent, skipped, intervals } = heartbeat;
    registry
      .gauge(
        'sluice_heartbeat_interval_seconds',
        'Heartbeat intervals in use: the shortest and the longest.',
        () => {
          const seconds = intervals().map((interval) => interval / 1000);
          return seconds.length === 0
            ? []
            : by('bound', { min: Math.min(...seconds), max: Math.max(...seconds) });
        },
      )
      .counter(
        'sluice_heartbeats_total',
        'Heartbeats, sent, or skipped because the client took no bytes.',
        () => by('outcome', { sent: sent(), skipped: skipped() }),
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
