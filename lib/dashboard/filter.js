// What the list shows: events with a text, of a topic, of a name. Offers the topics and names that have come.
import { watch } from './connection.js';
import { input, make, selection } from './elements.js';
import { setFilter } from './store.js';

const MAX_OFFERED = 200;

/** @type {Set<string>} */
const topics = new Set();
/** @type {Set<string>} */
const types = new Set();

export function startFilter() {
  input('search').addEventListener('input', () => setFilter({ text: input('search').value }));
  selection('of-topic').addEventListener('change', () => setFilter({ topic: selection('of-topic').value }));
  selection('of-type').addEventListener('change', () => setFilter({ type: selection('of-type').value }));
  watch(({ topic, type }) => {
    offer(topics, topic, 'of-topic');
    offer(types, type, 'of-type');
  });
}

/**
 * @param {Set<string>} offered
 * @param {string} value
 * @param {string} id
 */
function offer(offered, value, id) {
  if (offered.has(value) || offered.size >= MAX_OFFERED) return;
  offered.add(value);
  const option = make('option', '', value);
  option.value = value;
  const after = [...selection(id).options].slice(1).find((other) => other.value > value);
  selection(id).insertBefore(option, after ?? null);
}
