// Checks whether an origin is listed, and lets the deciding functions of options allow only by `true`.
// Stands alone: copy this file by itself.

/**
 * The listed origins, written as browsers send them (`https://app.example`), or a function that returns
 * `true` for an origin that is allowed.
 */
export type Origins<Req> = readonly string[] | ((origin: string, req: Req) => boolean);

/**
 * Makes a function that tests an `Origin` header. It never allows a missing origin, or `null`, which any
 * sandboxed page sends.
 *
 * @throws {TypeError} for an origin in a form that no browser sends, naming the form to write.
 */
export function originRule<Req>(origins: Origins<Req>): (origin: string | undefined, req: Req) => boolean {
  const isListed = typeof origins === 'function' ? onlyTrue('origins', origins) : listOf(origins);
  return (origin, req) => origin !== undefined && origin !== 'null' && isListed(origin, req);
}

/**
 * Wraps a function of the options that allows or refuses, so that only the result `true` allows. The wrapped
 * function throws a TypeError for a promise, which its caller would not await: as an object it would count as
 * true.
 */
export function onlyTrue<Args extends unknown[]>(
  option: string,
  decide: (...args: Args) => unknown,
): (...args: Args) => boolean {
  return (...args) => {
    const answer = decide(...args);
    const promise = answer as Partial<PromiseLike<unknown>> | undefined;
    if (typeof promise?.then === 'function') {
      promise.then(undefined, ignore); // nobody else handles its rejection, which would end the process
      throw new TypeError(`\`${option}\` must answer true or false, got a promise`);
    }
    return answer === true;
  };
}

function ignore(): void {}

function listOf(origins: readonly string[]): (origin: string) => boolean {
  if (!Array.isArray(origins)) {
    throw new TypeError(`\`origins\` must be a list or a function, got ${show(origins)}`);
  }
  const set = new Set(origins.map(checkOrigin));
  return (origin) => set.has(origin);
}

// The origin of an app, such as capacitor://localhost: `URL` gives these no origin.
const APP_ORIGIN = /^(?!https?:)[a-z][a-z0-9+.-]*:\/\/[a-z0-9._-]+(:\d+)?$/;

/** Browsers send each origin in one form: an entry in any other form would never match. */
function checkOrigin(origin: string): string {
  if (origin === 'null') throw new TypeError('`origins` must not hold "null": any sandboxed page sends it');
  if (typeof origin === 'string' && (APP_ORIGIN.test(origin) || asOrigin(origin) === origin)) return origin;
  const advice = asOrigin(origin) ?? asOrigin(`https://${origin}`) ?? 'https://example.com';
  throw new TypeError(`\`origins\` must hold origins, got ${show(origin)}: write ${show(advice)}`);
}

function asOrigin(text: string): string | undefined {
  // `URL` accepts a `*` in a host name.
  const origin = URL.canParse(text) && !text.includes('*') ? new URL(text).origin : 'null';
  return origin === 'null' ? undefined : origin;
}

function show(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}
