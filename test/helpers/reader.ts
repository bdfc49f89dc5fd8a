import { once } from 'node:events';
import http from 'node:http';
import { createParser } from 'eventsource-parser';

export interface ReadFrame {
  readonly id: string | undefined;
  readonly event: string | undefined;
  readonly data: string;
}

/** A client over a real socket that reads as an independent parser does, and keeps its place as a browser does. */
export class Reader {
  readonly response: http.IncomingMessage;
  readonly frames: ReadFrame[] = [];
  readonly retries: number[] = [];
  text = '';
  lastEventId = '';
  ended = false;
  readonly #wake = new EventTarget();

  static async open(url: string, options: http.RequestOptions = {}): Promise<Reader> {
    const request = http.get(url, { agent: false, ...options });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    return new Reader(response);
  }

  constructor(response: http.IncomingMessage) {
    this.response = response;
    const parser = createParser({
      onEvent: ({ id, event, data }) => {
        if (id !== undefined) this.lastEventId = id;
        this.frames.push({ id, event, data });
      },
      onRetry: (retry) => this.retries.push(retry),
    });
    response.setEncoding('utf8');
    response.on('data', (text: string) => {
      this.text += text;
      parser.feed(text);
      this.#wake.dispatchEvent(new Event('wake'));
    });
    response.on('close', () => {
      this.ended = true;
      this.#wake.dispatchEvent(new Event('wake'));
    });
    response.on('error', () => {});
  }

  get status(): number {
    return this.response.statusCode ?? 0;
  }

  /** The frames that are not the hub's own. */
  get events(): ReadFrame[] {
    return this.frames.filter(({ event }) => !event?.startsWith('sluice:'));
  }

  /** The data of the events that are not the hub's own. */
  get data(): string[] {
    return this.events.map(({ data }) => data);
  }

  frame(event: string): ReadFrame {
    const found = this.frames.find((frame) => frame.event === event);
    if (found === undefined) throw new Error(`no ${event} among ${JSON.stringify(this.frames)}`);
    return found;
  }

  /** Waits until something holds; fails when the stream ends before. */
  async until(holds: (reader: this) => boolean): Promise<this> {
    while (!holds(this)) {
      if (this.ended)
        throw new Error(`the stream ended first, after ${JSON.stringify(this.text.slice(-500))}`);
      await once(this.#wake, 'wake');
    }
    return this;
  }

  async untilEnded(): Promise<this> {
    while (!this.ended) await once(this.#wake, 'wake');
    return this;
  }

  close(): void {
    this.response.destroy();
  }
}
