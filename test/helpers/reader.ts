// What tests read with: a parser that is not ours, and readers that keep what has arrived and wait for more.

import { once } from 'node:events';
import http from 'node:http';
import type { Readable } from 'node:stream';
import { createParser, type EventSourceParser } from 'eventsource-parser';
import { Reading as TimedReading } from '../../lib/raw-reader.ts';

export interface Frame {
  readonly id: string | undefined;
  readonly event: string | undefined;
  readonly data: string;
}

/** What an event stream holds. */
export interface Parsed {
  readonly frames: Frame[];
  readonly comments: string[];
  readonly retries: number[];
  /** Lines that are no field of the specification: a well-formed stream has none. */
  readonly errors: string[];
}

/** Parses the text of a stream, in pieces of any size. */
export function parse(text: string, pieceLength: number = text.length): Parsed {
  const parsed = nothing();
  const parser = parserInto(parsed);
  for (let at = 0; at < text.length; at += pieceLength) parser.feed(text.slice(at, at + pieceLength));
  return parsed;
}

function nothing(): Parsed {
  return { frames: [], comments: [], retries: [], errors: [] };
}

function parserInto(parsed: Parsed): EventSourceParser {
  return createParser({
    onEvent: ({ id, event, data }) => parsed.frames.push({ id, event, data }),
    onComment: (comment) => parsed.comments.push(comment),
    onRetry: (retry) => parsed.retries.push(retry),
    onError: (error) => parsed.errors.push(error.message),
  });
}

/** Reads text from anything readable. It waits for as long as the test may last. */
export class Reading extends TimedReading {
  constructor(source: Readable) {
    super(source, { timeout: Infinity });
  }
}

/** Reads an event stream over a real socket, and keeps its place as a browser does. */
export class Reader extends Reading {
  readonly response: http.IncomingMessage;
  readonly frames: Frame[];
  readonly retries: number[];

  static async open(url: string, options: http.RequestOptions = {}): Promise<Reader> {
    const request = http.get(url, { agent: false, ...options });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    return new Reader(response);
  }

  constructor(response: http.IncomingMessage) {
    super(response.setEncoding('utf8'));
    this.response = response;
    const parsed = nothing();
    const parser = parserInto(parsed);
    response.on('data', (text: string) => parser.feed(text));
    this.frames = parsed.frames;
    this.retries = parsed.retries;
  }

  get status(): number {
    return this.response.statusCode ?? 0;
  }

  /** The id of the newest frame that has one. */
  get lastEventId(): string {
    return this.frames.findLast(({ id }) => id !== undefined)?.id ?? '';
  }

  /** The frames that are not the hub's own. */
  get events(): Frame[] {
    return this.frames.filter(({ event }) => !event?.startsWith('sluice:'));
  }

  /** The data of the events that are not the hub's own. */
  get data(): string[] {
    return this.events.map(({ data }) => data);
  }

  frame(event: string): Frame {
    const found = this.frames.find((frame) => frame.event === event);
    if (found === undefined) throw new Error(`no ${event} among ${JSON.stringify(this.frames)}`);
    return found;
  }

  close(): void {
    this.response.destroy();
  }
}
