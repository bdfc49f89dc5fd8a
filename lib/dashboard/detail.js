// Shows the event that the user has selected. It stays while new events come.
import { commandsFor } from './commands.js';
import { button, element, input, make } from './elements.js';
import { isPublished, lineOf } from './entries.js';
import { count } from './figures.js';
import { readTree } from './tree.js';

/** @import { Entry } from './store.js' */

const MAX_CHARACTERS = 20_000;
const MAX_JSON = 1_000_000;

/** @type {readonly ('publish' | 'read')[]} */
const PURPOSES = ['publish', 'read'];
/** @type {readonly ('curl' | 'js' | 'cli')[]} */
const FORMS = ['curl', 'js', 'cli'];

/** @type {Entry | undefined} */
let shown;

/** @param {() => void} onClose Called when the user has closed it. */
export function startDetail(onClose) {
  const close = () => {
    element('detail').hidden = true;
    shown = undefined;
    onClose();
    element('log').focus();
  };
  button('close').addEventListener('click', close);
  element('detail').addEventListener('keydown', ({ key }) => key === 'Escape' && close());
  for (const purpose of PURPOSES) {
    for (const form of FORMS)
      button(`${purpose}-${form}`).addEventListener('click', () => copyCommand(purpose, form));
  }
}

/**
 * @param {'publish' | 'read'} purpose
 * @param {'curl' | 'js' | 'cli'} form
 */
function copyCommand(purpose, form) {
  if (shown === undefined) return;
  copy(commandsFor(shown, baseUrl(), input('token').value !== '')[purpose][form]);
}

/** The URL of the server, which ends in a slash. */
function baseUrl() {
  return new URL('.', location.href).href;
}

/** @param {Entry} entry */
export function showDetail(entry) {
  shown = entry;
  const { type, topic, id, at, data, raw, isReplay } = entry;
  const said = isPublished(entry) ? '' : lineOf(entry);
  const facts = [topic, type, id, new Date(at).toLocaleString(), isReplay ? 'replayed' : '', said];
  element('detail-facts').textContent = facts.filter(Boolean).join(' · ');
  const tree = data.length <= MAX_JSON ? readTree(data) : undefined;
  element('detail-data').replaceChildren(tree ?? make('pre', '', cut(data)));
  element('detail-raw').textContent = cut(raw);
  element('detail-frame').hidden = raw === '';
  element('copies').hidden = !isPublished(entry) || topic === '';
  element('copied').textContent = '';
  element('command').hidden = true;
  element('detail').hidden = false;
}

/** @param {string} text */
async function copy(text) {
  element('command').textContent = text;
  element('command').hidden = false;
  try {
    await navigator.clipboard.writeText(text);
    element('copied').textContent = 'copied';
  } catch {
    // Without https, browsers give pages of other hosts no clipboard.
    element('copied').textContent = 'select and copy it below';
    getSelection()?.selectAllChildren(element('command'));
  }
}

/** @param {string} text */
function cut(text) {
  const rest = text.length - MAX_CHARACTERS;
  return rest > 0 ? `${text.slice(0, MAX_CHARACTERS)}\n… and ${count(rest, 'character')} more` : text;
}
