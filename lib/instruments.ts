// Registers the metrics of a server: streams, refusals, events, gaps, lag, memory.
// Needs `metrics.ts` beside it.

import type { Registry, Sample } from './metrics.ts';

/** The sources of the metrics. Each is read when the page is rendered; nothing is counted here. */
export interface Instrumented {
  readonly hub: {
    readonly size: number;
    readonly historyBytes: number;
    /** Why the log of the hub cannot be written to or reached. */
    readonly failure?: unknown;
    /** Its log. `lag`: milliseconds since this process last had all that a shared log has. */
    readonly log?: { readonly order?: unknown; readonly lag?: number | undefined } | undefined;
    readonly stats: {
      readonly published: number;
      readonly publishedBytes: number;
      readonly delivered: number;
      readonly deliveredBytes: number;
      readonly resumed: number;
      readonly started: number;
      readonly gaps: Readonly<Record<string, number>>;
    };
    readonly topicCount: number;
    subscriptions(): Iterable<{ readonly lag: number }>;
  };
  /** A handler of `serveEvents`. */
  readonly events: {
    readonly streams: Iterable<{ readonly writableLength: number; readonly writableNeedDrain: boolean }>;
    readonly stats: {
      readonly opened: number;
      readonly closed: Readonly<Record<string, number>>;
      readonly refused: Readonly<Record<string, number>>;
    };
    readonly limit: {
      readonly stats: {
        readonly open: number;
        readonly peak: number;
        readonly waiting: number;
        readonly keys: number;
      };
    };
    readonly keepalive:
      | {
          readonly heartbeat: { readonly sent: number; readonly skipped: number };
          intervals(): readonly number[];
        }
      | undefined;
  };
  /** Requests that were refused elsewhere, by reason: by `guard`, for example. */
  readonly refused?: (() => Readonly<Record<string, number>>) | undefined;
  /** Whether the server shuts down. */
  readonly isDraining?: (() => boolean) | undefined;
}

/** The gap reasons of a client whose id is not a position of this hub. */
const NO_POSITION = ['unknown-epoch', 'ahead', 'malformed'];

function outcomes({ resumed, started, gaps }: Instrumented['hub']['stats']): Record<string, number> {
  const lost = NO_POSITION.reduce((sum, reason) => sum + (gaps[reason] ?? 0), 0);
  return { resumed: resumed - lost, lost, started };
}

/** Registers all families. Label values are this library's own words, never text from a client. */
export function instrument(registry: Registry, sources: Instrumented): Registry {
  const { hub, events, refused = () => ({}), isDraining = () => false } = sources;
  const { keepalive, limit } = events;
  registry
    .gauge('sluice_streams_open', 'Open streams.', () => hub.size)
    .counter('sluice_streams_opened_total', 'Streams opened.', () => events.stats.opened)
    .counter('sluice_streams_closed_total', 'Streams closed, by reason.', () =>
      by('reason', events.stats.closed),
    )
    .counter('sluice_refused_total', 'Requests refused, by reason.', () =>
      by('reason', added(events.stats.refused, refused())),
    )
    .gauge('sluice_connections', 'Connections that hold a permit.', () => limit.stats.open)
    .gauge('sluice_connections_peak', 'Most permits ever held at once.', () => limit.stats.peak)
    .gauge(
      'sluice_connections_waiting',
      'Waiters for a permit of a shared semaphore.',
      () => limit.stats.waiting,
    )
    .gauge(
      'sluice_connection_keys',
      'Clients with a connection, as the limiter counts them.',
      () => limit.stats.keys,
    )
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
    .gauge('sluice_topics', 'Topics with a history or a subscriber.', () => hub.topicCount)
    .gauge('sluice_history_bytes', 'Bytes of the history of all topics.', () => hub.historyBytes)
    .gauge('sluice_lag_max_events', 'Events by which the slowest stream is behind.', () =>
      max(hub.subscriptions(), ({ lag }) => lag),
    )
    .gauge('sluice_streams_behind', 'Streams that are behind.', () =>
      count(hub.subscriptions(), ({ lag }) => lag > 0),
    )
    .gauge('sluice_streams_full', 'Streams whose client takes no more bytes at present.', () =>
      count(events.streams, (stream) => stream.writableNeedDrain),
    )
    .gauge('sluice_buffered_bytes', 'Bytes that wait for clients in this process.', () =>
      sum(events.streams, (stream) => stream.writableLength),
    )
    .gauge(
      'sluice_log_available',
      '1 while the log of the hub can be written to or reached, and without one.',
      () => Number(hub.failure === undefined),
    )
    .gauge(
      'sluice_log_lag_seconds',
      'Time since this process last had all events of a log that several share; 0 with any other.',
      () => (hub.log?.lag ?? 0) / 1000,
    )
    .gauge('sluice_draining', '1 while the server shuts down.', () => Number(isDraining()));
  if (keepalive !== undefined) {
    registry
      .gauge(
        'sluice_heartbeat_interval_seconds',
        'Heartbeat intervals in use: the shortest and the longest.',
        () => {
          const seconds = keepalive.intervals().map((interval) => interval / 1000);
          return seconds.length === 0
            ? []
            : by('bound', { min: Math.min(...seconds), max: Math.max(...seconds) });
        },
      )
      .counter(
        'sluice_heartbeats_total',
        'Heartbeats, sent, or skipped because the client took no bytes.',
        () => {
          const { sent, skipped } = keepalive.heartbeat;
          return by('outcome', { sent, skipped });
        },
      );
  }
  return registry;
}

/** Reason by reason, the sum of two counts. */
function added(
  one: Readonly<Record<string, number>>,
  other: Readonly<Record<string, number>>,
): Record<string, number> {
  const total: Record<string, number> = { ...one };
  for (const [reason, count] of Object.entries(other)) total[reason] = (total[reason] ?? 0) + count;
  return total;
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
