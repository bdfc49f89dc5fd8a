// Stores the position of a reader, so that it resumes after a restart: in a file, or in `localStorage`.
// Stands alone: copy this file by itself. Runs in Node, browsers, workers, Deno and Bun.

/** The part of `localStorage` that is used. Promises are awaited. */
export interface PositionStorage {
  getItem(key: string): string | null | Promise<string | null>;
  setItem(key: string, value: string): unknown;
}

/** The error for a file of positions that cannot be read or has other contents; `cause` is the reason. */
export interface PositionFileError extends Error {
  readonly code: 'ERR_SSE_POSITION_FILE';
}

/**
 * Stores positions in a JSON file, on Node. Each write goes to a second file, which then replaces the first:
 * a crash leaves the old positions or the new ones, never a part. At most one process may use a file, and
 * in it one thread, where any number of storages may share it. Only its owner can read it.
 *
 * Its methods reject with a {@link PositionFileError} where the file cannot be read, and with the error of
 * `node:fs` where it cannot be written.
 */
export function fileStorage(path: string): PositionStorage {
  const { readFile, rename, writeFile } = process.getBuiltinModule('node:fs/promises');
  const file = process.getBuiltinModule('node:path').resolve(path);
  let isTidy = false;

  // Anew each time: another storage may have written since.
  async function load(): Promise<Map<string, string>> {
    if (!isTidy) await removeUnfinished(file);
    isTidy = true;
    try {
      return new Map(entriesOf(JSON.parse(await readFile(file, 'utf8'))));
    } catch (cause) {
      if ((cause as { code?: unknown }).code === 'ENOENT') return new Map();
      const why = (cause as Error).message;
      const error = new Error(`cannot read positions from ${path}: ${why}`, { cause });
      throw Object.assign(error, { code: 'ERR_SSE_POSITION_FILE' as const });
    }
  }

  async function write(key: string, value: string): Promise<void> {
    const all = await load();
    all.set(key, value);
    const unfinished = `${file}.${process.pid}.tmp`;
    // For the owner alone: the keys may be URLs with secrets.
    await writeFile(unfinished, JSON.stringify(Object.fromEntries(all)), { mode: 0o600 });
    await rename(unfinished, file);
  }

  return {
    getItem: async (key) => (await inTurn(file, load)).get(key) ?? null,
    setItem: (key, value) => inTurn(file, () => write(key, value)),
  };
}

// For each file in use, the last of the reads and writes that all of its storages have asked for.
const turns = new Map<string, Promise<unknown>>();

function inTurn<Value>(file: string, act: () => Promise<Value>): Promise<Value> {
  const turn = (turns.get(file) ?? Promise.resolve()).then(act, act);
  const over = (): void => {
    if (turns.get(file) === turn) turns.delete(file);
  };
  turns.set(file, turn);
  turn.then(over, over);
  return turn;
}

function entriesOf(json: unknown): [string, string][] {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new TypeError('no JSON object');
  const entries = Object.entries(json);
  const other = entries.find(([, position]) => typeof position !== 'string');
  if (other === undefined) return entries;
  throw new TypeError(`the position of ${JSON.stringify(other[0])} is not a string`);
}

// Removes the second files of processes that were killed before they renamed them.
async function removeUnfinished(path: string): Promise<void> {
  const { readdir, rm } = process.getBuiltinModule('node:fs/promises');
  const { basename, dirname, join } = process.getBuiltinModule('node:path');
  const folder = dirname(path);
  const prefix = `${basename(path)}.`;
  for (const name of await readdir(folder).catch(() => [])) {
    const isUnfinished = name.startsWith(prefix) && /^\d+\.tmp$/.test(name.slice(prefix.length));
    if (isUnfinished) await rm(join(folder, name), { force: true });
  }
}

/**
 * Saves the newest position of one reader: one write at a time, and positions that are outdated before their
 * write begins are skipped. After a write that failed, `save` and `flush` throw its error.
 */
export class PositionSaver {
  readonly #storage: PositionStorage;
  readonly #key: string;
  #unsaved: string | undefined;
  #writing: Promise<void> | undefined;
  #failure: { readonly reason: unknown } | undefined;

  constructor(storage: PositionStorage, key: string) {
    this.#storage = storage;
    this.#key = key;
  }

  /** The stored position; `undefined` where there is none. It may be anything that others have stored there. */
  async load(): Promise<string | undefined> {
    return (await this.#storage.getItem(this.#key)) ?? undefined;
  }

  /** Begins to save the position, and does not wait for the write. */
  save(position: string): void {
    this.#throwIfFailed();
    this.#unsaved = position;
    this.#writing ??= this.#write();
  }

  /** Resolves once the newest position is stored. */
  async flush(): Promise<void> {
    await this.#writing;
    this.#throwIfFailed();
  }

  async #write(): Promise<void> {
    try {
      while (this.#unsaved !== undefined) {
        const position = this.#unsaved;
        this.#unsaved = undefined;
        await this.#storage.setItem(this.#key, position);
      }
    } catch (reason) {
      this.#failure = { reason };
    } finally {
      this.#writing = undefined;
    }
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.reason;
  }
}
