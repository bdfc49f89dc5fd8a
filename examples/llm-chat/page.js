// Follows a chat, whose id is in the address, and each of its answers from the beginning.
import { ask, byId, make, watch } from '/shared/page.js';

const OUTCOMES = ['done', 'failed', 'stopped'];

let id = location.hash.slice(1);
/** The answers that are being written. */
const running = new Set();

async function open() {
  const { status } = id === '' ? { status: 404 } : await ask('GET', `/chats/${id}`);
  if (status === 404) {
    if (id !== '') note('The server has forgotten the chat of this address. This is a new one.');
    const { isGood, answer } = await ask('POST', '/chats');
    if (!isGood) return;
    id = answer.id;
    history.replaceState(null, '', `#${id}`);
  }
  byId('answer').textContent = '';
  const questions = watch(new EventSource(`/events/${id}?from=earliest`));
  questions.addEventListener('question', ({ data }) => show(JSON.parse(data)));
  questions.addEventListener('sluice:gap', () =>
    note('The server was started again. Reload for a new chat.'),
  );
}

function show({ text, topic, start }) {
  const words = make('p');
  const state = make('small', {}, 'writing');
  const element = make('li', { className: 'reply' }, words, state);
  byId('messages').append(make('li', { className: 'question' }, make('p', {}, text)), element);
  // Read aloud once it is complete.
  element.setAttribute('aria-busy', 'true');
  element.scrollIntoView({ block: 'nearest' });
  running.add(topic);
  showButtons();

  // The browser comes back by itself with the id of its last token. A page that is reloaded begins at the start.
  const tokens = new EventSource(`/events/${topic}?lastEventId=${start}`);
  let missing = '';
  const end = (outcome) => {
    tokens.close();
    state.textContent = `${outcome}${missing}`;
    element.removeAttribute('aria-busy');
    running.delete(topic);
    showButtons();
  };
  tokens.addEventListener('token', ({ data }) => {
    words.append(JSON.parse(data));
    byId('ask').scrollIntoView({ block: 'nearest' });
  });
  tokens.addEventListener('sluice:gap', ({ data }) => {
    missing = ', and a part is missing';
    // Another server process knows nothing of this answer.
    if (JSON.parse(data).reason !== 'evicted') end('lost');
  });
  for (const outcome of OUTCOMES) tokens.addEventListener(outcome, () => end(outcome));
  // An answer that is no longer kept has no last event: its topic has ended, and the stream is refused with 204.
  tokens.addEventListener('error', () => tokens.readyState === EventSource.CLOSED && end('not kept'));
}

function showButtons() {
  byId('stop').disabled = running.size === 0;
  byId('send').disabled = running.size > 0;
}

function note(text) {
  byId('note').textContent = text;
  byId('note').hidden = false;
}

byId('ask').addEventListener('submit', async (event) => {
  event.preventDefault();
  // Enter asks as well, also while the button cannot.
  if (running.size > 0) return;
  const { isGood } = await ask('POST', `/chats/${id}/questions`, { text: byId('text').value });
  if (isGood) byId('text').value = '';
});
byId('stop').addEventListener('click', async () => {
  await ask('DELETE', `/chats/${id}/answer`);
  byId('text').focus();
});
byId('new').addEventListener('click', () => {
  location.hash = '';
  location.reload();
});
addEventListener('hashchange', () => location.hash.slice(1) !== id && location.reload());
open();
