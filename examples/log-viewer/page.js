// Shows the newest lines, and goes on after a reload of the page and a restart of the server where it was.
import { byId, make, seqOf, watch } from '/shared/page.js';

const MAX_ROWS = 2000;
const FIRST_LINES = 500;
const DRAW_DELAY = 50;

const list = byId('lines');
const filter = byId('filter');
/** What has arrived and is not drawn yet: lines and notes, each with the id of its event. */
let waiting = [];
let isPaused = false;
let timer;

// The position before the first row. A page that is reloaded asks for what came after it, so it gets the same rows
// again, those that it missed, and a gap where some are not kept any more.
const place = {
  get: () => sessionStorage.getItem('before-first'),
  set: (id) => sessionStorage.setItem('before-first', id),
  forget: () => sessionStorage.removeItem('before-first'),
};

function connect() {
  const before = place.get();
  const query = before === null ? `last=${FIRST_LINES}` : `lastEventId=${before}`;
  const events = watch(new EventSource(`/events?${query}`));
  events.addEventListener('sluice:ready', ({ lastEventId }) => {
    if (place.get() === null) place.set(lastEventId);
  });
  events.addEventListener('message', ({ data, lastEventId }) =>
    add({ id: lastEventId, ...JSON.parse(data) }),
  );
  events.addEventListener('sluice:gap', ({ data, lastEventId }) => {
    const { reason, from, to } = JSON.parse(data);
    if (reason === 'evicted') {
      add({ id: lastEventId, note: `${seqOf(to) - seqOf(from)} lines are not kept any more` });
      return;
    }
    // The server has forgotten what it had when these lines came.
    events.close();
    place.forget();
    clear();
    add({ note: 'The server has begun anew. Lines may be missing before these.' });
    connect();
  });
}

function add(row) {
  waiting.push(row);
  if (waiting.length > MAX_ROWS) drop(waiting.shift());
  if (timer === undefined) timer = setTimeout(draw, DRAW_DELAY);
}

/** The first row is now the one after this. */
function drop({ id }) {
  if (id !== undefined) place.set(id);
}

function draw() {
  timer = undefined;
  byId('waiting').textContent = isPaused ? `, ${waiting.length} more wait` : '';
  if (isPaused) return;
  const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 5;
  for (const row of waiting) list.append(elementOf(row));
  waiting = [];
  while (list.childElementCount > MAX_ROWS) {
    drop(list.firstElementChild.dataset);
    list.firstElementChild.remove();
  }
  if (isAtEnd) list.scrollTop = list.scrollHeight;
  count();
}

function elementOf({ id, number, text, note }) {
  const element =
    note === undefined
      ? make(
          'li',
          {},
          make('span', { className: 'number', textContent: number }),
          make('span', { className: 'text', textContent: text }),
        )
      : make('li', { className: 'note', textContent: note });
  if (id !== undefined) element.dataset.id = id;
  element.hidden = !matches(element);
  return element;
}

/** Notes are shown whatever the filter says. */
function matches(element) {
  const text = element.querySelector('.text')?.textContent;
  return text === undefined || text.toLowerCase().includes(filter.value.toLowerCase());
}

function count() {
  const lines = list.querySelectorAll('.text').length;
  const shown = list.querySelectorAll('li:not([hidden]) .text').length;
  byId('count').textContent = `${shown} of ${lines} lines`;
}

/** Removes all rows. Returns the last of them. */
function clear() {
  const last = waiting.at(-1) ?? list.lastElementChild?.dataset;
  waiting = [];
  list.replaceChildren();
  count();
  return last;
}

filter.value = sessionStorage.getItem('filter') ?? '';
filter.addEventListener('input', () => {
  sessionStorage.setItem('filter', filter.value);
  for (const element of list.children) element.hidden = !matches(element);
  count();
  byId('found').textContent = byId('count').textContent;
});
byId('pause').addEventListener('click', () => {
  isPaused = !isPaused;
  byId('pause').setAttribute('aria-pressed', String(isPaused));
  draw();
});
byId('clear').addEventListener('click', () => drop(clear() ?? {}));

const source = await (await fetch('/source')).json();
byId('file').textContent = source.file;
document.title = source.file;
byId('kept').textContent = source.keptIn;
connect();
