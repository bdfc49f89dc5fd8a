import type { Readable } from 'node:stream';

/** What a stream has brought so far, and a way to wait for more. */
export class Reading {
  text = '';
  /** All of it, once nothing more can come, however that came about. */
  readonly over: Promise<string>;
  #waiting: (() => void)[] = [];
  #closed = false;

  constructor(source: Readable) {
    source.setEncoding('utf8').on('data', (piece: string) => {
      this.text += piece;
      this.#wake();
    });
    source.on('error', () => {});
    this.over = new Promise((resolve) => {
      source.on('close', () => {
        this.#closed = true;
        this.#wake();
        resolve(this.text);
      });
    });
  }

  /** Fulfils with everything so far once `part` is in it; rejects when the stream closes before that. */
  async until(part: string): Promise<string> {
    while (!this.text.includes(part)) {
      if (this.#closed)
        throw new Error(`closed before ${JSON.stringify(part)}: ${JSON.stringify(this.text)}`);
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    return this.text;
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
