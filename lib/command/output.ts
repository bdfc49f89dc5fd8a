// Writes text at the pace of its reader, and ends every wait once the reader has gone.
// Stands alone: copy this file by itself.

interface OutputOptions {
  readonly onFailure: () => void;
  /** What the error of the stream is about, such as `--record FILE`: it begins its message. */
  readonly name?: string | undefined;
}

/**
 * A stream to write text to. Its first failure, or the first call of `fail`, ends the pending write and all
 * later ones, and calls `onFailure` once.
 */
export class Output {
  readonly #target: NodeJS.WritableStream;
  readonly #options: OutputOptions;
  #failure: unknown;
  #wake: (() => void) | undefined;

  constructor(target: NodeJS.WritableStream, options: OutputOptions) {
    this.#target = target;
    this.#options = options;
    target.on('drain', () => this.#wake?.());
    target.on('error', (error) => this.#failBy(error));
  }

  /** The reason of the failure; `undefined` where there is none. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Whether the reader of the output has closed it. */
  get isAbandoned(): boolean {
    return (this.#failure as { readonly code?: string } | undefined)?.code === 'EPIPE';
  }

  fail(reason: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#options.onFailure();
    this.#wake?.();
  }

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Resolves when more may be written. Rejects with the failure. */
  async write(text: string): Promise<void> {
    this.throwIfFailed();
    if (!this.#target.write(text)) await this.#wait();
  }

  /** Resolves when the text and everything before it is written. Rejects with the failure. */
  async writeThrough(text: string): Promise<void> {
    this.throwIfFailed();
    const written = this.#wait();
    this.#target.write(text, (error?: Error | null) => (error ? this.#failBy(error) : this.#wake?.()));
    await written;
  }

  /** Resolves when everything is written. Rejects with the failure. */
  async flush(): Promise<void> {
    await this.writeThrough('');
  }

  /** Resolves when everything is written, and closes the stream. Rejects with the failure. */
  async end(): Promise<void> {
    this.throwIfFailed();
    const ended = this.#wait();
    // A last write that fails reaches this callback before 'error' is emitted.
    this.#target.end((error?: Error | null) => (error ? this.#failBy(error) : this.#wake?.()));
    await ended;
  }

  #failBy(cause: Error & { readonly code?: string }): void {
    const { name } = this.#options;
    if (name === undefined) return this.fail(cause);
    this.fail(Object.assign(new Error(`${name}: ${cause.message}`, { cause }), { code: cause.code }));
  }

  async #wait(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.throwIfFailed();
  }
}
