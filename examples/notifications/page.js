// Joins what is stored with what is published next: the answer has the position from which the stream continues.
import { ask, byId, make, showState, watch } from '/shared/page.js';

const RETRY_DELAY = 1000;
let events;

async function start() {
  events?.close();
  const { status, isGood, answer } = await ask('GET', '/notifications');
  if (!isGood && status !== 401) {
    setTimeout(start, RETRY_DELAY);
    return;
  }
  for (const id of ['mine', 'leave']) byId(id).hidden = !isGood;
  byId('login').hidden = isGood;
  if (isGood) show(answer);
  else {
    byId('answer').textContent = '';
    byId('list').replaceChildren();
    showState('closed', 'not logged in');
  }
}

function show({ user, others, unread, position }) {
  document.title = `Notifications of ${user}`;
  byId('to').replaceChildren(...others.map((name) => make('option', { textContent: name })));
  byId('list').replaceChildren(...unread.map(itemOf));
  count();
  events = watch(new EventSource(`/events?lastEventId=${position}`));
  events.addEventListener('added', ({ data }) => {
    byId('list').append(itemOf(JSON.parse(data)));
    count();
  });
  events.addEventListener('read', ({ data }) => remove(JSON.parse(data).id));
  // The server was started again, or the page was away for too long. What is stored has what was missed.
  events.addEventListener('sluice:gap', start);
  // The session is over.
  events.addEventListener('error', () => events.readyState === EventSource.CLOSED && start());
}

function itemOf({ id, from, text, at }) {
  const time = make('time', { dateTime: at, textContent: new Date(at).toLocaleTimeString() });
  const button = make('button', { type: 'button', textContent: 'Mark as read' });
  button.setAttribute('aria-label', `Mark as read: ${text}`);
  button.addEventListener('click', async () => {
    button.disabled = true;
    const { isGood, status } = await ask('DELETE', `/notifications/${id}`);
    // Where it was read on another page, this one hears of it as well.
    if (!isGood && status !== 404) button.disabled = false;
  });
  const item = make(
    'li',
    { id: `n${id}` },
    make('p', {}, make('strong', {}, from), `: ${text} `, time),
    button,
  );
  return item;
}

function remove(id) {
  const item = byId(`n${id}`);
  if (item === null) return;
  const hadFocus = item.contains(document.activeElement) || document.activeElement === document.body;
  const next = (item.nextElementSibling ?? item.previousElementSibling)?.querySelector('button');
  item.remove();
  // Who uses the keyboard goes on at the next one.
  if (hadFocus) (next ?? byId('unread')).focus();
  count();
}

function count() {
  byId('count').textContent = byId('list').childElementCount;
}

byId('login').addEventListener('submit', async (event) => {
  event.preventDefault();
  const { isGood } = await ask('POST', '/session', {
    user: byId('user').value,
    password: byId('password').value,
  });
  byId('password').value = '';
  if (!isGood) return;
  await start();
  byId('unread').focus();
});
byId('send').addEventListener('submit', async (event) => {
  event.preventDefault();
  const { isGood } = await ask('POST', '/notifications', { to: byId('to').value, text: byId('text').value });
  if (isGood) byId('text').value = '';
});
byId('leave').addEventListener('click', async () => {
  await ask('DELETE', '/session');
  await start();
  byId('user').focus();
});
start();
