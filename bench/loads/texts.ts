// The events that all servers send, and how a reader knows them again: `@<seq> <time> …`.

/** Microseconds, of the clock that all processes of one machine share. */
export function now(): number {
  return offset + performance.now() * 1000;
}

// `performance.now` counts from the start of its process, by the same clock, and costs less to read. Whatever comes
// between the two readings makes the difference smaller: the largest of some is the right one.
const offset = Math.max(
  ...Array.from({ length: 10 }, () => Number(process.hrtime.bigint()) / 1000 - performance.now() * 1000),
);

/** What a text is filled up with: `json` compresses as JSON does. */
export type Filling = 'x' | 'json';

/** One event's data, of so many bytes where its head leaves room for some. */
export function textOf(seq: number, time: number, bytes: number, filling: Filling = 'x'): string {
  const head = `@${seq} ${Math.floor(time)} `;
  if (filling === 'x') return head.padEnd(bytes, 'x');
  return (head + record(seq)).padEnd(bytes).slice(0, Math.max(bytes, head.length));
}

const WORDS = 'order trade quote volume price bid ask open close high low change status venue symbol'.split(
  ' ',
);

function record(seq: number): string {
  const fields: Record<string, unknown> = { type: 'update', sequence: seq };
  for (let i = 0; i < 40; i++) {
    const mixed = Math.imul(seq * 40 + i, 2_654_435_761) >>> 0;
    const word = WORDS[mixed % WORDS.length];
    fields[`${WORDS[i % WORDS.length]}_${i}`] = i % 3 === 0 ? (mixed % 1_000_000) / 100 : word;
  }
  return JSON.stringify(fields);
}

const AT = 0x40;
const SPACE = 0x20;
const ZERO = 0x30;

const BETWEEN = 0;
const SEQ = 1;
const TIME = 2;
const FILLING = 3;

/**
 * Follows the events of one topic on one connection through whatever bytes come, heads of chunks and all. Keeps no
 * byte, and costs about 50 ns an event, so that a reader of a thousand connections is not what limits a run.
 */
export class Follower {
  /** How many events there were, and how many of them did not follow the one before: lost, doubled, out of order. */
  events = 0;
  disorder = 0;
  #state = BETWEEN;
  #last = 0;
  #seq = 0;
  #time = 0;
  #left = 0;
  #headBytes = 0;
  readonly #bytes: number;
  readonly #onEvent: ((time: number) => void) | undefined;

  /** @param bytes of each event's data. @param onEvent gets the time that the event carries. */
  constructor(bytes: number, onEvent?: (time: number) => void) {
    this.#bytes = bytes;
    this.#onEvent = onEvent;
  }

  feed(chunk: Uint8Array, length: number = chunk.length): void {
    let i = 0;
    while (i < length) {
      if (this.#state === FILLING) {
        const skipped = Math.min(this.#left, length - i);
        i += skipped;
        this.#left -= skipped;
        if (this.#left > 0) return;
        this.#state = BETWEEN;
        continue;
      }
      const byte = chunk[i++]!;
      if (this.#state === BETWEEN) {
        if (byte === AT) this.#begin();
      } else if (this.#state === SEQ) {
        this.#headBytes++;
        if (byte === SPACE) this.#state = TIME;
        else this.#seq = this.#seq * 10 + byte - ZERO;
      } else {
        this.#headBytes++;
        if (byte === SPACE) this.#event();
        else this.#time = this.#time * 10 + byte - ZERO;
      }
    }
  }

  #begin(): void {
    this.#state = SEQ;
    this.#seq = this.#time = 0;
    this.#headBytes = 1;
  }

  #event(): void {
    this.#left = Math.max(0, this.#bytes - this.#headBytes);
    this.#state = this.#left > 0 ? FILLING : BETWEEN;
    this.events++;
    // The first one that is seen is where the connection came in.
    if (this.#last !== 0 && this.#seq !== this.#last + 1) this.disorder++;
    this.#last = this.#seq;
    this.#onEvent?.(this.#time);
  }
}
