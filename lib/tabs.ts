// Shares one event stream among the tabs of an origin: one tab reads it for all, until it is closed.
// Needs `protocol.ts` beside it. For browsers, which open at most six HTTP/1 connections to an origin.
//
// How it works: the tab that holds a Web Lock leads. It reads the stream and posts each event to a
// BroadcastChannel, where the other tabs listen while they wait for the lock. Each tab keeps the last event
// ID, so each can resume.

import { compareIds, controlEvents, isReservedEvent, isSendableId } from './protocol.ts';

/** An event as one tab posts it to the others. The events of `connect` fit. */
export interface SharedEvent {
  readonly event: string;
  readonly data: string;
  /** The event's own id; `undefined` where it has none. */
  readonly id?: string | undefined;
  readonly lastEventId: string;
}

/** The argument of `lead` in the tab that leads. */
export interface Lead<Event extends SharedEvent = SharedEvent> {
  /**
   * Hands an event to all tabs, this one included. Does nothing once `signal` is aborted. Share control
   * events too: `sluice:ready` and `sluice:position` tell the tabs where to resume, so that nothing is lost
   * where another tab takes over before the first event.
   */
  readonly share: (event: Event) => void;
  /** The position to resume from; `''` where no tab has seen an id yet. */
  readonly lastEventId: string;
  /** Aborted when this tab stops leading: close the stream then. */
  readonly signal: AbortSignal;
}

export interface TabsOptions<Event extends SharedEvent = SharedEvent> {
  /**
   * Called when this tab begins to lead: opens the stream and shares each event.
   *
   * When the promise that it returns settles, this tab retires and the next one leads; each tab leads at most
   * once. When it returns nothing, this tab leads until it closes.
   */
  readonly lead: (lead: Lead<Event>) => void | Promise<void>;
  /** Called in every tab, once for each event; of control events, for `sluice:gap` and `sluice:end`. */
  readonly onEvent: (event: Event) => void;
  /** Called in this tab when `lead` fails in it, or the lock cannot be requested. */
  readonly onError?: ((error: unknown, context: { readonly role: TabRole }) => void) | undefined;
  /** Called after each change of this tab's role. */
  readonly onRole?: ((change: { readonly role: TabRole }) => void) | undefined;
  /** Default `navigator.locks`. Without locks every tab leads and reads for itself. */
  readonly locks?: Locks | undefined;
}

/** `retired`: it has led, and now listens to the tab that leads. */
export type TabRole = 'following' | 'leading' | 'retired' | 'closed';

/** The part of `navigator.locks` that is used. */
export interface Locks {
  request(name: string, options: { signal: AbortSignal }, held: () => Promise<void>): Promise<unknown>;
}

/** This tab's part in the shared stream. */
export interface SharedStream {
  readonly role: TabRole;
  /** The last event ID that this tab has seen. */
  readonly lastEventId: string;
  /** Leaves the stream. When this tab leads, the next one takes over. */
  close(): void;
}

/**
 * Joins the tabs that share the stream `name`. A tab gets the events after it joined: load a snapshot for the
 * state before. The names of the lock and of the channel are `sluice.tabs:NAME`.
 *
 * Events with ids of a hub are delivered once, also when a new leader reads some of them again.
 *
 * @see https://developer.mozilla.org/docs/Web/API/Web_Locks_API
 */
export function shareAcrossTabs<Event extends SharedEvent = SharedEvent>(
  name: string,
  options: TabsOptions<Event>,
): SharedStream {
  const { lead, onEvent, onError, onRole } = options;
  const locks = options.locks ?? (globalThis.navigator as { locks?: Locks } | undefined)?.locks;
  // Without locks every tab reads for itself, so no tab may listen to another.
  const canShare = locks !== undefined && typeof BroadcastChannel === 'function';
  const sharedName = `sluice.tabs:${name}`;
  const channel = canShare ? new BroadcastChannel(sharedName) : undefined;
  const leaving = new AbortController();
  let role: TabRole = 'following';
  let lastEventId = '';

  if (channel !== undefined) {
    channel.onmessage = ({ data }: { readonly data: unknown }) => {
      if (isMessage<Event>(data)) receive(data);
    };
    post({ kind: 'hello' });
  }
  const turn = canShare ? locks.request(sharedName, { signal: leaving.signal }, leadOnce) : leadOnce();
  turn.catch(report);

  return {
    get role() {
      return role;
    },
    get lastEventId() {
      return lastEventId;
    },
    close() {
      if (role === 'closed') return;
      enter('closed');
      leaving.abort();
      channel?.close();
    },
  };

  function post(message: Message<Event>): void {
    if (role !== 'closed') channel?.postMessage(message);
  }

  function receive(message: Message<Event>): void {
    if (role === 'closed') return;
    if (message.kind === 'event') take(message.event);
    // A tab that has just joined needs the position, in case it leads later.
    else if (message.kind === 'hello' && role === 'leading') post({ kind: 'position', lastEventId });
    else if (message.kind === 'position' && lastEventId === '') moveTo(message.lastEventId);
  }

  // A tab that leads later could not resume from an id that cannot be sent: the earlier one stays.
  function moveTo(id: string): void {
    if (isSendableId(id)) lastEventId = id;
  }

  function take(event: Event): void {
    // A control event may have the id of the event before it.
    if (!isReservedEvent(event.event) && wasSeen(event, lastEventId)) return;
    moveTo(event.lastEventId);
    if (!OF_CONNECTION.has(event.event)) onEvent(event);
  }

  async function leadOnce(): Promise<void> {
    if (role === 'closed') return;
    enter('leading');
    const stopped = new AbortController();
    const left = new Promise<void>((resolve) => {
      leaving.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    const share = (event: Event): void => {
      if (stopped.signal.aborted) return;
      post({ kind: 'event', event });
      take(event);
    };
    try {
      await Promise.race([left, lead({ share, lastEventId, signal: stopped.signal }) ?? left]);
    } catch (error) {
      report(error);
    } finally {
      stopped.abort();
      enter('retired');
    }
  }

  function enter(next: TabRole): void {
    if (role === 'closed') return;
    role = next;
    onRole?.({ role });
  }

  function report(error: unknown): void {
    if (role !== 'closed') onError?.(error, { role });
  }
}

// They concern the connection of the tab that leads.
const OF_CONNECTION: ReadonlySet<string> = new Set([
  controlEvents.ready,
  controlEvents.position,
  controlEvents.refused,
]);

type Message<Event> =
  | { readonly kind: 'hello' }
  | { readonly kind: 'position'; readonly lastEventId: string }
  | { readonly kind: 'event'; readonly event: Event };

// Any script of the origin can post to the channel.
function isMessage<Event>(data: unknown): data is Message<Event> {
  const { kind, lastEventId, event } = Object(data) as Record<string, unknown>;
  if (kind === 'event') return ['event', 'data', 'lastEventId'].every((name) => isText(Object(event)[name]));
  return kind === 'hello' || (kind === 'position' && isText(lastEventId));
}

function isText(value: unknown): boolean {
  return typeof value === 'string';
}

// Only a hub's ids have an order. An event without an id of its own follows the event whose id is in force.
function wasSeen({ id, lastEventId }: SharedEvent, newest: string): boolean {
  const order = compareIds(lastEventId, newest);
  return order !== undefined && (order < 0 || (order === 0 && id !== undefined));
}
