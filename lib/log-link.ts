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
  readonly onSettled: () => void;
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
   * Resolves with the answer, also where that is an error of the owner. Rejects where none has come in time, or none
   * can come: what was asked may then have happened or not.
   * @param onSettled - Called when the owner no longer has the question, which may be long after the time-out.
   */
  ask(
    head: object,
    parts: readonly Uint8Array[],
    timeout: number,
    onSettled: () => void = () => {},
  ): Promise<Message> {
    return new Promise((resolve, reject) => {
      const refuse = (error: unknown): void => {
        onSettled();
        reject(error);
      };
      if (this.#isClosed) return refuse(new Error('the connection to the owner is closed'));
      const id = ++this.#newest;
      let message: Buffer;
      try {
        message = encodeMessage({ id, ...head }, parts);
      } catch (error) {
        // It is no JSON.
        return refuse(error);
      }
      const late = (): void => reject(new Error(`the owner did not answer within ${timeout} ms`));
      const timer = setTimeout(late, timeout);
      this.#asked.set(id, { resolve, reject, timer, onSettled });
      this.#stream.write(message);
    });
  }

  close(error: Error = new Error('the owner has closed the connection')): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stream.destroy();
    for (const { reject, timer, onSettled } of this.#asked.values()) {
      clearTimeout(timer);
      onSettled();
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
    if (asked === undefined) return;
    this.#asked.delete(id);
    clearTimeout(asked.timer);
    asked.onSettled();
    asked.resolve(message);
  }
}
