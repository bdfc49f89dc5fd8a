// Publishes the event in the form, and shows the answer.
import { element, input } from './elements.js';
import { ask } from './requests.js';
import { followNew, readTopic, refreshTopics } from './topics.js';

export async function publish() {
  const topic = readTopic(input('topic'));
  if (topic === undefined) return;
  const [event, key] = [input('event').value, input('key').value];
  const query = new URLSearchParams({ ...(event && { event }), ...(key && { key }) });
  followNew(topic);
  say('', 'publishing …');
  const headers = { 'content-type': 'text/plain; charset=utf-8' };
  const request = { method: 'POST', headers, body: input('data').value };
  try {
    const { status, answer } = await ask(`topics/${encodeURIComponent(topic)}?${query}`, request);
    answered(status, answer);
  } catch (error) {
    say('bad', `The server could not be reached: ${/** @type {Error} */ (error).message}`);
  }
}

/**
 * @param {number} status
 * @param {Record<string, unknown>} answer
 */
function answered(status, { id, message }) {
  if (status === 200 && id !== undefined) {
    say('good', `published as ${id}`);
    input('data').select();
    return refreshTopics();
  }
  if (status === 401) input('token').focus();
  say('bad', `${status}: ${message}`);
}

/**
 * @param {'' | 'good' | 'bad'} kind
 * @param {string} text
 */
function say(kind, text) {
  element('answer').dataset.kind = kind;
  element('answer').textContent = text;
}
