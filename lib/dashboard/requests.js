// Sends requests to the server, with the token that was typed into the page.
import { element, input } from './elements.js';

let isTokenRequired = false;

/**
 * Sends a request and reads the JSON of its answer. Rejects where the server cannot be reached.
 *
 * @param {string} path Relative to the page.
 * @param {{ method?: string, headers?: Record<string, string>, body?: string }} [options]
 * @returns {Promise<{ status: number, answer: Record<string, any> }>}
 */
export async function ask(path, { headers, ...options } = {}) {
  const token = input('token').value;
  const authorization = token === '' ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(path, {
    ...options,
    cache: 'no-store',
    headers: { ...headers, ...authorization },
  });
  if (response.status === 401) requireToken();
  return { status: response.status, answer: Object(await response.json()) };
}

/** Requests the position of the server; `''` where there is no answer. */
export async function askPosition() {
  return askFor('position', 'position');
}

/**
 * Requests a ticket for one connection; `''` where none is needed or given. An EventSource cannot send a
 * token, so it sends a ticket in its URL.
 */
export async function askTicket() {
  if (!isTokenRequired || input('token').value === '') return '';
  return askFor('tickets', 'ticket', { method: 'POST' });
}

/** Shows the field for the token. */
export function requireToken() {
  isTokenRequired = true;
  element('token-field').hidden = false;
}

/**
 * @param {string} path
 * @param {string} member
 * @param {{ method?: string }} [options]
 * @returns {Promise<string>}
 */
async function askFor(path, member, options) {
  try {
    const { answer } = await ask(path, options);
    return String(answer[member] ?? '');
  } catch {
    return '';
  }
}
