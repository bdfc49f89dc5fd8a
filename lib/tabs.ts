// One tab holds the stream for all tabs of an origin; when it goes, the next one takes over where it was.
// Stands alone: copy this file by itself. For browsers, where six connections per origin is a wall.
//
// How it works: whoever holds the Web Lock leads, reads the stream and says each event on a BroadcastChannel.
// The others hear it there and wait in the lock's queue. Each keeps the last event ID, so each can resume.

/** An event as it goes from tab to tab; what `connect` yields fits. */
export interface SharedEvent {
  readonly event: string;
  readonly data: string;
  /** The id of this very event, where it has one of its own. */
  readonly id?: string | undefined;
  readonly lastEventId: string;
}

export interface Lead {
  /** Where to resume; `''` where no tab has seen an id yet. */
  readonly lastEventId: string;
  /** Ends with this tab's turn: close the stream. */
  readonly signal: AbortSignal;
}

export interface LeaderOptions<Event extends SharedEvent = SharedEvent> {
  /**
   * Called in the tab that leads: opens the stream and hands each event to `share`.
   *
   * When it returns a promise that settles, the stream is over for this tab, and the next tab has its turn, once
   * each. When it returns nothing, this tab leads until it closes.
   */
  readonly lead: (share: (event: Event) => void, lead: Lead) => void | Promise<void>;
  /** Called in every tab, the leading one too, once for each event. */
  readonly onEvent: (event: Event) => void;
  /** `lead` threw or rejected, in this tab. */
  readonly onError?: ((error: unknown) => void) | undefined;
  readonly onRole?: ((role: TabRole) => void) | undefined;
  /** Default `navigator.locks`. Without any, each tab leads itself. */
  readonly locks?: Locks | undefined;
}

/** `retired`: its turn is over. It still hears the tab that leads now. */
export type TabRole = 'following' | 'leading' | 'retired' | 'closed';

/** The part of `navigator.locks` that is used. */
export interface Locks {
  request(name: string, options: { signal: AbortSignal }, held: () => Promise<void>): Promise<unknown>;
}

export interface SharedStream {
  readonly role: TabRole;
  /** The last event ID that this tab has seen. */
  readonly lastEventId: string;
  /** Leaves the tabs. When this one leads, the next one takes over. */
  close(): void;
}

/**
 * Joins the tabs that share the stream `name`. A tab hears what is said after it joined: for what came before,
 * load a snapshot.
 *
 * Events with an id like the hub's (`<epoch>-<seq>`) are given once, also when a new leader reads some again.
 *
 * @see https://developer.mozilla.org/docs/Web/API/Web_Locks_API
 */
export function shareStream<Event extends SharedEvent = SharedEvent>(
  name: string,
  options: LeaderOptions<Event>,
): SharedStream {
  const { lead, onEvent, onError, onRole } = options;
  const locks = options.locks ?? (globalThis.navigator as { locks?: Locks } | undefined)?.locks;
  // Without locks each tab reads for itself, so none may hear the others.
  const canShare = locks !== undefined && typeof BroadcastChannel === 'function';
  const channel = canShare ? new BroadcastChannel(`sluice:${name}`) : undefined;
  const leaving = new AbortController();
  let role: TabRole = 'following';
  let lastEventId = '';

  if (channel !== undefined) {
    channel.onmessage = (message: unknown) => hear((message as { data: Said<Event> }).data);
    say({ kind: 'hello' });
  }
  const turn = canShare ? waitForTurn(locks) : takeTurn();
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

  function say(said: Said<Event>): void {
    if (role !== 'closed') channel?.postMessage(said);
  }

  function hear(said: Said<Event>): void {
    if (role === 'closed') return;
    if (said.kind === 'event') take(said.event);
    // A tab that came late has to know the place, should it ever lead.
    else if (said.kind === 'hello' && role === 'leading') say({ kind: 'place', lastEventId });
    else if (said.kind === 'place' && lastEventId === '') lastEventId = said.lastEventId;
  }

  function take(event: Event): void {
    if (event.event !== 'sluice:gap' && wasSeen(event, lastEventId)) return;
    lastEventId = event.lastEventId;
    onEvent(event);
  }

  async function waitForTurn(locks: Locks): Promise<void> {
    await locks.request(`sluice:${name}`, { signal: leaving.signal }, takeTurn);
  }

  async function takeTurn(): Promise<void> {
    if (role === 'closed') return;
    enter('leading');
    const turn = new AbortController();
    const left = new Promise<void>((resolve) => {
      leaving.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    const share = (event: Event): void => {
      if (turn.signal.aborted) return;
      say({ kind: 'event', event });
      take(event);
    };
    try {
      await Promise.race([left, lead(share, { lastEventId, signal: turn.signal }) ?? left]);
    } finally {
      turn.abort();
      enter('retired');
    }
  }

  function enter(next: TabRole): void {
    if (role === 'closed') return;
    role = next;
    onRole?.(next);
  }

  function report(error: unknown): void {
    if (role !== 'closed') onError?.(error);
  }
}

type Said<Event> =
  | { readonly kind: 'hello' }
  | { readonly kind: 'place'; readonly lastEventId: string }
  | { readonly kind: 'event'; readonly event: Event };

const HUB_ID = /^(\d{1,15})-(\d{1,15})$/;

// Only ids like the hub's have an order. An event without one of its own comes after the one that had it.
function wasSeen({ id, lastEventId }: SharedEvent, latest: string): boolean {
  const [a, b] = [HUB_ID.exec(lastEventId), HUB_ID.exec(latest)];
  if (a === null || b === null || a[1] !== b[1]) return false;
  const ahead = Number(a[2]) - Number(b[2]);
  return ahead < 0 || (ahead === 0 && id !== undefined);
}
