// Sends requests to the server, with the token that was typed into the page.
import { element, input } from './elements.js';
import { parseJson } from './figures.js';

/**
 * @typedef {object} Asked
 * @property {string} [method]
 * @property {Record<string, string>} [headers]
 * @property {string} [body]
 * @property {AbortSignal | undefined} [signal]
 */

/** Milliseconds after which a request has failed: packets may vanish without a sign. */
const MAX_WAIT = 10_000;
/** An answer to what is published waits for readers that are behind. */
const MAX_PUBLISH_WAIT = 30_000;

/**
 * Sends a request and reads the JSON of its answer. Rejects where there is no answer in time.
 *
 * @param {string} path Relative to the page.
 * @param {Asked} [options]
 * @returns {Promise<{ status: number, answer: Record<string, any> }>}
 */
export async function ask(path, { headers, signal, ...options } = {}) {
  const response = await fetch(path, {
    ...options,
    cache: 'no-store',
    headers: { ...headers, ...authorization() },
    signal: limited(signal, options.method === 'POST' ? MAX_PUBLISH_WAIT : MAX_WAIT),
  });
  if (response.status === 401) requireToken();
  return { status: response.status, answer: await readAnswer(response) };
}

/**
 * Ends a request that takes too long.
 *
 * @param {AbortSignal} [signal] Ends it as well.
 */
export function limited(signal, milliseconds = MAX_WAIT) {
  const timeout = AbortSignal.timeout(milliseconds);
  return signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
}

/**
 * A function that does not begin again before it has ended: requests that wait must not take up the few
 * connections that a browser has for a server.
 *
 * @param {() => Promise<void>} act
 * @returns {() => Promise<void>}
 */
export function oneAtATime(act) {
  /** @type {Promise<void> | undefined} */
  let present;
  return () => {
    present ??= act().finally(() => {
      present = undefined;
    });
    return present;
  };
}

/**
 * The JSON of an answer. The error page of a proxy has none: then `message` says what the status says.
 *
 * @param {Response} response
 * @returns {Promise<Record<string, any>>}
 */
export async function readAnswer(response) {
  const value = parseJson(await response.text());
  return { message: response.statusText || 'the answer is not one of sluice', ...Object(value) };
}

/** The header with the token that was typed in, where there is one. */
export function authorization() {
  const token = input('token').value;
  return /** @type {Record<string, string>} */ (token === '' ? {} : { authorization: `Bearer ${token}` });
}

/**
 * Requests the position of the server; `''` where there is no answer.
 *
 * @param {AbortSignal} [signal]
 */
export async function askPosition(signal) {
  try {
    const { answer } = await ask('position', { signal });
    return String(answer.position ?? '');
  } catch {
    return '';
  }
}

/** Shows the field for the token. */
export function requireToken() {
  element('token-panel').hidden = false;
}
