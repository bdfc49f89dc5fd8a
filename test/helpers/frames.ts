import { createParser } from 'eventsource-parser';

export interface Frame {
  readonly id: string | undefined;
  readonly event: string | undefined;
  readonly data: string;
}

export interface Parsed {
  readonly frames: Frame[];
  readonly comments: string[];
  readonly retries: number[];
  /** Lines that are no field of the specification: a well-formed stream has none. */
  readonly errors: string[];
}

/** What a reader that is not ours makes of a stream's text, given to it in pieces of any size. */
export function parse(text: string, pieceLength: number = text.length): Parsed {
  const parsed: Parsed = { frames: [], comments: [], retries: [], errors: [] };
  const parser = createParser({
    onEvent: ({ id, event, data }) => parsed.frames.push({ id, event, data }),
    onComment: (comment) => parsed.comments.push(comment),
    onRetry: (retry) => parsed.retries.push(retry),
    onError: (error) => parsed.errors.push(error.message),
  });
  for (let at = 0; at < text.length; at += pieceLength) parser.feed(text.slice(at, at + pieceLength));
  return parsed;
}
