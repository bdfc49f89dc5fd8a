// Reads streams by `connect`, without waits between attempts.

import { type ConnectOptions, connect } from '../../lib/client.ts';

export const atOnce = { minRetryDelay: 0, backoffDelay: 0 } as const;

/** The data of all events, or of the first so many, after which the loop is left. */
export async function readData(
  url: string,
  options: ConnectOptions = {},
  enough: number = Infinity,
): Promise<string[]> {
  const data: string[] = [];
  for await (const event of connect(url, { ...atOnce, ...options })) {
    data.push(event.data);
    if (data.length === enough) break;
  }
  return data;
}
