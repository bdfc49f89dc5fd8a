// Sends requests to the server, with the token that was typed into the page.
import { element, input } from './elements.js';

/**
 * Sends a request and reads the JSON of its answer. Rejects where the server cannot be reached.
 *
 * @param {string} path Relative to the page.
 * @param {{ method?: string, headers?: Record<string, string>, body?: string }} [options]
 * @returns {Promise<{ status: number, answer: Record<string, any> }>}
 */
export async function ask(path, { headers, ...options } = {}) {
  const response = await fetch(path, {
    ...options,
    cache: 'no-store',
    headers: { ...headers, ...authorization() },
  });
  if (response.status === 401) requireToken();
  return { status: response.status, answer: Object(await response.json()) };
}

/** The header with the token that was typed in, where there is one. */
export function authorization() {
  const token = input('token').value;
  return /** @type {Record<string, string>} */ (token === '' ? {} : { authorization: `Bearer ${token}` });
}

/** Requests the position of the server; `''` where there is no answer. */
export async function askPosition() {
  try {
    const { answer } = await ask('position');
    return String(answer.position ?? '');
  } catch {
    return '';
  }
}

/** Shows the field for the token. */
export function requireToken() {
  element('token-panel').hidden = false;
}
