// Asks the owner of a log: one connection of a process that follows it.
// Needs `log-wire.ts` beside it.

import type { Duplex } from 'node:stream';
import { encodeMessage, type Message, MessageReader } from './log-wire.ts';

export interface LinkOptions {
  readonly maxMessageBytes: number;
  /** Called once, when nothing can be asked any more. */
  readonly onClose: (error: Error) => void;
}

interface Asked {
  readonly resolve: (answer: Message) => void;
  readonly reject: (error: Error) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

/** A connection to the owner. Answers may come in any order. */
export class Link {
  readonly #stream: Duplex;
  readonly #options: LinkOptions;
  readonly #reader: MessageReader;
  readonly #asked = new Map<number, Asked>();
  #newest = 0;
  #isClosed = false;

  constructor(stream: Duplex, options: LinkOptions) {
    this.#stream = stream;
    this.#options = options;
    this.#reader = new MessageReader(options.maxMessageBytes);
    stream.on('data', (chunk: Buffer) => this.#take(chunk));
    stream.on('error', (error) => this.close(error));
    stream.on('end', () => this.close());
    stream.on('close', () => this.close());
  }

  /**
   * Resolves with the answer, also where that is an error of the owner. Rejects where none has come in time,
   * or none can come: what was asked may then have happened or not.
   */
  ask(head: object, parts: readonly Uint8Array[], timeout: number): Promise<Message> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) return reject(new Error('the connection to the owner is closed'));
      const id = ++this.#newest;
      const timer = setTimeout(() => {
        this.#asked.delete(id);
        reject(new Error(`the owner did not answer within ${timeout} ms`));
      }, timeout);
      this.#asked.set(id, { resolve, reject, timer });
      this.#stream.write(encodeMessage({ id, ...head }, parts));
    });
  }

  close(error: Error = new Error('the owner has closed the connection')): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stream.destroy();
    for (const { reject, timer } of this.#asked.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#asked.clear();
    this.#options.onClose(error);
  }

  #take(chunk: Buffer): void {
    try {
      for (const message of this.#reader.read(chunk)) this.#answered(message);
    } catch (error) {
      this.close(error as Error);
    }
  }

  #answered(message: Message): void {
    const id = message.head.id as number;
    const asked = this.#asked.get(id);
    // One that came too late.
    if (asked === undefined) return;
    this.#asked.delete(id);
    clearTimeout(asked.timer);
    asked.resolve(message);
  }
}
