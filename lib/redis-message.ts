// Writes and reads what hubs say to each other on a channel of Redis: events, changes of topics, and checks.
// Stands alone: copy this file by itself.

export interface RedisMessage {
  /** The hub that says it. */
  readonly node: string;
  /** How many messages with a topic it has sent, this one included. */
  readonly count: number;
  /** Without a topic, it only states the count. */
  readonly topic?: string | undefined;
  readonly events?: readonly RedisEvent[] | undefined;
  readonly change?: 'end' | 'reopen' | 'delete' | undefined;
}

export interface RedisEvent {
  /** When it was published, in milliseconds. */
  readonly at: number;
  readonly key: string | undefined;
  /** The event as it goes over the wire, without its id. */
  readonly frame: string;
}

// The first word names the form, so that a later one can be told from it.
const FORM = 'sluice1 ';

/** As JSON, behind the name of its form. */
export function formatMessage({ node, count, topic, events, change }: RedisMessage): string {
  const short = events?.map(({ at, key, frame }) => (key === undefined ? [at, frame] : [at, frame, key]));
  return FORM + JSON.stringify({ node, count, topic, events: short, change });
}

/** `undefined` for what is no message, or one of another form. Never throws. */
export function parseMessage(text: string): RedisMessage | undefined {
  if (!text.startsWith(FORM)) return undefined;
  try {
    return messageOf(JSON.parse(text.slice(FORM.length)));
  } catch {
    return undefined;
  }
}

function messageOf({
  node,
  count,
  topic,
  events,
  change,
}: Record<string, unknown>): RedisMessage | undefined {
  if (typeof node !== 'string' || node.length > MAX_NODE || !Number.isSafeInteger(count)) return undefined;
  const said = { node, count: count as number };
  if (topic === undefined) return said;
  if (typeof topic !== 'string') return undefined;
  if (events === undefined) return isChange(change) ? { ...said, topic, change } : undefined;
  if (!Array.isArray(events) || events.length === 0 || !events.every(isEvent)) return undefined;
  return { ...said, topic, events: events.map(([at, frame, key]) => ({ at, frame, key })) };
}

const MAX_NODE = 64;

function isChange(value: unknown): value is RedisMessage['change'] {
  return value === 'end' || value === 'reopen' || value === 'delete';
}

function isEvent(value: unknown): value is [at: number, frame: string, key?: string] {
  if (!Array.isArray(value)) return false;
  const [at, frame, key] = value;
  return (
    typeof at === 'number' && typeof frame === 'string' && (key === undefined || typeof key === 'string')
  );
}
