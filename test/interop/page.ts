// What the pages of browser.test.ts run: bundled, and put before each page's own scripts.
import { connect } from '../../lib/client.ts';
import { EventSource as OurEventSource } from '../../lib/eventsource.ts';
import { shareAcrossTabs } from '../../lib/tabs.ts';

type Read = [type: string, data: string, lastEventId: string];

interface Job {
  readonly reader: 'native' | 'ours';
  readonly urls: readonly string[];
  readonly types: readonly string[];
}

function openSource({ reader, types }: Job, url: string) {
  const full = `${url}${url.includes('?') ? '&' : '?'}reader=${reader}`;
  const source = reader === 'native' ? new EventSource(full) : new OurEventSource(full);
  const reads: Read[] = [];
  const origins = new Set<string>();
  for (const type of new Set(['message', ...types])) {
    source.addEventListener(type, (event) => {
      const { data, lastEventId, origin } = event as MessageEvent;
      // The source tells its own errors by the same type.
      if (!(event instanceof MessageEvent)) return;
      reads.push([event.type, data, lastEventId]);
      origins.add(origin);
    });
  }
  return { source, reads, origins };
}

/** Reads each URL until its source gives up. */
export async function readUntilClosed(job: Job): Promise<Read[][]> {
  return Promise.all(
    job.urls.map(
      (url) =>
        new Promise<Read[]>((resolve) => {
          const { source, reads } = openSource(job, url);
          source.onerror = () => source.readyState === source.CLOSED && resolve(reads);
        }),
    ),
  );
}

/** Reads each URL until its source tells of an error for the first time. */
export async function readUntilError(
  job: Job,
): Promise<{ reads: Read[]; closed: boolean; origins: string[] }[]> {
  return Promise.all(
    job.urls.map(
      (url) =>
        new Promise<{ reads: Read[]; closed: boolean; origins: string[] }>((resolve) => {
          const { source, reads, origins } = openSource(job, url);
          source.onerror = () => {
            const closed = source.readyState === source.CLOSED;
            source.close();
            resolve({ reads, closed, origins: [...origins] });
          };
        }),
    ),
  );
}

/** The data of the next event after the place in localStorage. */
export async function readOne(url: string): Promise<string | undefined> {
  const connection = connect(url, { storage: localStorage });
  for await (const event of connection) {
    await connection.commit();
    return event.data;
  }
  return undefined;
}

export const heard: string[] = [];

export function share(url: string): void {
  shareAcrossTabs('interop', {
    lead: async ({ share: say, lastEventId, signal }) => {
      for await (const event of connect(url, { lastEventId, signal })) say(event);
    },
    onEvent: (event) => heard.push(event.data),
  });
}

/** Sends a body by our EventSource or `connect`, and returns the code of the failure that ends it. */
export async function codeAfter(reader: 'connect' | 'EventSource', url: string): Promise<unknown> {
  const options = { body: 'secret' };
  try {
    if (reader === 'connect') for await (const { data } of connect(url, options)) return data;
    const source = new OurEventSource(url, options);
    return await new Promise((resolve) => {
      source.onmessage = ({ data }) => resolve(data);
      source.onerror = ({ error }) => resolve((error as { code?: unknown })?.code);
    });
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
}

/** What the latest call of `readAcross` has read. */
export const across: string[] = [];

/** Reads a stream of another origin until it is over. */
export async function readAcross(
  reader: 'connect' | 'EventSource',
  url: string,
  lastEventIdParameter: string | undefined,
): Promise<void> {
  across.length = 0;
  const options = { lastEventIdParameter, minRetryDelay: 0, backoffDelay: 0 };
  if (reader === 'connect') {
    for await (const { data } of connect(url, options)) across.push(data);
    return;
  }
  const source = new OurEventSource(url, options);
  source.onmessage = ({ data }) => across.push(data);
  await new Promise<void>((resolve) => {
    source.onerror = () => source.readyState === source.CLOSED && resolve();
  });
}
