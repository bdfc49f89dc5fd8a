import type { Readable } from 'node:stream';

/** What a stream has brought so far, and a way to wait for more. */
export class Reading {
  text = '';
  /** All of it, once nothing more can come, however that came about. */
  readonly over: Promise<string>;
  #waiting: (() => void)[] = [];
  #over = false;

  constructor(source: Readable) {
    source.setEncoding('utf8').on('data', (piece: string) => {
      this.text += piece;
      this.#wake();
    });
    source.on('error', () => {});
    this.over = new Promise((resolve) => {
      const over = () => {
        this.#over = true;
        this.#wake();
        resolve(this.text);
      };
      source.on('end', over).on('close', over);
    });
  }

  /** Fulfils with everything so far once `part` is in it; rejects when the stream is over before that. */
  async until(part: string): Promise<string> {
    while (!this.text.includes(part)) {
      if (this.#over) throw new Error(`over before ${JSON.stringify(part)}: ${JSON.stringify(this.text)}`);
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    return this.text;
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
