// Lets a publisher hand over events while earlier ones are not answered yet, up to a limit.

/** How many events may be under way: more than a store answers at once, and less than 100 ms of its work. */
const MOST = 1000;

/** What was handed over and is not answered yet. A {@link Publisher} whose store answers later has one. */
export class Window {
  #waiting = 0;
  #failure: Error | undefined;
  #changed = (): void => {};

  /** @param answer resolves when all of the events are kept. */
  readonly add = (events: number, answer: Promise<unknown>): void => {
    this.#waiting += events;
    answer.then(
      () => this.#answered(events),
      (error: Error) => {
        this.#failure ??= error;
        this.#answered(events);
      },
    );
  };

  /** Resolves when there is room for more events. Rejects where one was refused. */
  readonly ready = (): Promise<void> => this.#until(MOST);

  /** Resolves when all are answered. Rejects where one was refused. */
  readonly settled = (): Promise<void> => this.#until(1);

  #answered(events: number): void {
    this.#waiting -= events;
    this.#changed();
  }

  async #until(fewer: number): Promise<void> {
    while (this.#waiting >= fewer) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
    if (this.#failure !== undefined) throw this.#failure;
  }
}
