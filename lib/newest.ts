// Knows which frames of a ring are the newest of their key, and finds the next one from any place.
// Stands alone: copy this file by itself.

/**
 * The keys of a ring, by the places of its frames: whole numbers without gaps. A frame without a key counts as
 * the newest of its own. Call `add` for each frame that the ring takes, and `dropBefore` when it drops some.
 *
 *     keys    a  b  a  –  b  b  c      from(0) = 2: what comes before is replaced
 *     newest        ■  ■     ■  ■      from(4) = 5
 *     place   0  1  2  3  4  5  6
 *
 * A place whose frame was replaced points on, and `from` shortens the way for the next caller. So the time of
 * all calls together is nearly proportional to their number, however many frames were replaced.
 */
export class NewestOfKeys {
  // Two circles that grow and shrink with the ring. For each place, itself, or a later place at which to look on; and its
  // key, where it is the newest of it.
  #next: number[] = [];
  #keys: (string | undefined)[] = [];
  #first: number;
  #end: number;
  readonly #places = new Map<string, number>();
  #keyBytes = 0;
  /** How many keys V8's table of `#places` has room for, and how much of that is used up by keys that left. */
  #room = LEAST_ROOM;
  #left = 0;

  /** @param place - That of the first frame that will be added; those before it have no keys. */
  constructor(place = 0) {
    this.#first = this.#end = place;
  }

  /** How many keys have a frame in the ring. */
  get keys(): number {
    return this.#places.size;
  }

  /** The memory that the index holds, in bytes. */
  get heldBytes(): number {
    const { length } = this.#next;
    if (length === 0) return 0;
    const spare = Math.max(0, this.#room - Math.max(LEAST_ROOM, this.#places.size * USUAL_ROOM));
    return INDEX_BYTES + length * PLACE_BYTES + this.#keyBytes + spare * ROOM_BYTES;
  }

  /** The newest frame of the ring has this key. */
  add(key: string | undefined): void {
    if (this.#end - this.#first === this.#next.length) this.#resize();
    const place = this.#end++;
    const mask = this.#next.length - 1;
    this.#next[place & mask] = place;
    this.#keys[place & mask] = key;
    if (key === undefined) return;
    const replaced = this.#places.get(key);
    this.#places.set(key, place);
    if (replaced === undefined) {
      this.#countAdded();
      this.#keyBytes += keyBytes(key);
    } else {
      this.#next[replaced & mask] = replaced + 1;
      this.#keys[replaced & mask] = undefined;
    }
  }

  /** The ring has dropped all frames before a place. */
  dropBefore(place: number): void {
    const mask = this.#next.length - 1;
    for (; this.#first < place; this.#first++) {
      const key = this.#keys[this.#first & mask];
      if (key === undefined) continue;
      this.#places.delete(key);
      this.#countDeleted();
      this.#keyBytes -= keyBytes(key);
      this.#keys[this.#first & mask] = undefined;
    }
    const { length } = this.#next;
    if (this.#first === this.#end) [this.#next, this.#keys] = [[], []];
    // Never as soon as it has grown, so that to add and to drop take constant time on average.
    else if (length > LEAST_PLACES && (this.#end - this.#first) * 4 <= length) this.#resize();
  }

  /** The place of the first frame, at `place` or after it, that is the newest of its key; or that of the end. */
  from(place: number): number {
    if (place < this.#first) return place;
    const next = this.#next;
    const mask = next.length - 1;
    let at = place;
    while (at < this.#end) {
      const following = next[at & mask]!;
      if (following === at) break;
      // Points over one more place, so that long ways halve each time that they are walked.
      at = next[at & mask] = next[following & mask]!;
    }
    return at;
  }

  // A table of V8 that is full becomes twice as large, or loses the keys that left where these are half of it
  // or more. One of which less than a quarter is used becomes half as large. So where keys come and go, it has
  // room for up to four times as many.

  #countAdded(): void {
    if (this.#places.size + this.#left <= this.#room) return;
    if (this.#left * 2 < this.#room) this.#room *= 2;
    this.#left = 0;
  }

  #countDeleted(): void {
    this.#left++;
    if (this.#places.size * 4 >= this.#room) return;
    this.#room = Math.max(LEAST_ROOM, this.#room / 2);
    this.#left = 0;
  }

  /** Makes room for as many places again. */
  #resize(): void {
    let size = LEAST_PLACES;
    while (size < (this.#end - this.#first) * 2) size *= 2;
    const [next, keys] = [new Array<number>(size), new Array<string | undefined>(size)];
    for (let place = this.#first; place < this.#end; place++) {
      next[place & (size - 1)] = this.#next[place & (this.#next.length - 1)]!;
      keys[place & (size - 1)] = this.#keys[place & (this.#keys.length - 1)];
    }
    [this.#next, this.#keys] = [next, keys];
  }
}

const LEAST_PLACES = 8;

/** What a place holds. There are up to four times as many as frames. */
export const PLACE_BYTES = 16;

/** What V8's table of keys takes for each that it has room for. */
export const ROOM_BYTES = 28;
const LEAST_ROOM = 4;

/** `keyBytes` includes this much room for each key. */
const USUAL_ROOM = 1.5;

/** What the objects of an index hold, however few places it has. */
export const INDEX_BYTES = 300;

/**
 * What a key holds, with the usual room: measured 68 to 77 bytes on Node 20 and 24 (x64), for 20 to 200,000 keys
 * of 9 characters. V8 takes one byte for a character, or two.
 */
export function keyBytes(key: string): number {
  return 54 + key.length * 2;
}
