// Pipes one source to one client, and answers what the client received and why the stream closed.

import type { PipeDialect, PipeSource } from '../../lib/pipe.ts';
import { openStream } from '../../lib/stream.ts';
import { type Frame, parse } from './reader.ts';
import { type Cleanup, serve } from './server.ts';
import { fetchFrom } from './streaming.ts';

export interface Received {
  readonly frames: readonly Frame[];
  /** The data of each event, from JSON where it is that. */
  readonly data: readonly unknown[];
  readonly reason: string;
  readonly cause: unknown;
}

export async function received<Value>(
  t: Cleanup,
  source: PipeSource<Value>,
  dialect: PipeDialect<Value>,
): Promise<Received> {
  let closed: Promise<{ reason: string; cause: unknown }> | undefined;
  const { port } = await serve(t, (req, res) => {
    const stream = openStream(req, res);
    closed = stream.pipe(source, dialect).then((reason) => ({ reason, cause: stream.cause }));
  });
  const { body } = await fetchFrom(t, port);
  const { frames } = parse(await body.over);
  return { frames, data: frames.map(({ data }) => parsed(data)), ...(await closed)! };
}

/** A source that yields these, then fails. */
export function failing<Value>(values: readonly Value[], failure: unknown): AsyncIterable<Value> {
  return (async function* () {
    yield* values;
    throw failure;
  })();
}

function parsed(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    return data;
  }
}
