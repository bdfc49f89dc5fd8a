// Keeps the newest update of each process. Paused, it has no connection; then it continues from its last id.
import { byId, make, seqOf, showState, sizeOf, watch } from '/shared/page.js';

const MAX_ROWS = 15;
const DRAW_INTERVAL = 250;

const processes = new Map();
const counts = { received: 0, lost: 0 };
/** Where this page began, and the newest id that it has. */
let [first, last] = [undefined, undefined];
let events;
let hasChanged = false;

function connect() {
  const query = last === undefined ? 'from=earliest' : `lastEventId=${last}`;
  events = watch(new EventSource(`/events?conflate=1&${query}`));
  events.addEventListener('sluice:ready', ({ lastEventId }) => {
    first ??= lastEventId;
    last = lastEventId;
  });
  events.addEventListener('used', (event) => {
    const process = JSON.parse(event.data);
    processes.set(process.pid, process);
    note(event);
  });
  events.addEventListener('gone', (event) => {
    processes.delete(JSON.parse(event.data).pid);
    note(event);
  });
  events.addEventListener('sluice:gap', ({ data, lastEventId }) => {
    const { reason, from, to } = JSON.parse(data);
    if (reason === 'evicted') {
      counts.lost += seqOf(to) - seqOf(from);
      last = lastEventId;
      // Those that are gone may have gone in what was lost. Those that run are back with the next sample.
      processes.clear();
      return;
    }
    // The server was started again: nothing of before holds any more.
    events.close();
    processes.clear();
    [first, last] = [undefined, undefined];
    Object.assign(counts, { received: 0, lost: 0 });
    connect();
  });
}

function note({ lastEventId }) {
  counts.received++;
  last = lastEventId;
  hasChanged = true;
}

function draw() {
  if (!hasChanged) return;
  hasChanged = false;
  // Ids are numbered without holes.
  const published = seqOf(last) - seqOf(first);
  const figures = { ...counts, published, 'left-out': published - counts.received - counts.lost };
  for (const [id, value] of Object.entries(figures)) byId(id).textContent = value.toLocaleString('en');
  byId('count').textContent = processes.size;
  const busiest = [...processes.values()]
    .sort((a, b) => b.cpuPercent - a.cpuPercent || b.memoryBytes - a.memoryBytes)
    .slice(0, MAX_ROWS);
  byId('rows').replaceChildren(...busiest.map(rowOf));
}

function rowOf({ pid, name, cpuPercent, memoryBytes }) {
  return make(
    'tr',
    {},
    make('td', { className: 'number' }, String(pid)),
    make('td', {}, name),
    make('td', { className: 'number' }, String(cpuPercent)),
    make('td', { className: 'number' }, sizeOf(memoryBytes)),
  );
}

byId('pause').addEventListener('click', () => {
  const isPaused = byId('pause').getAttribute('aria-pressed') !== 'true';
  byId('pause').setAttribute('aria-pressed', String(isPaused));
  byId('pause').textContent = isPaused ? 'Continue' : 'Pause';
  if (isPaused) {
    events.close();
    draw();
    showState('closed', 'paused');
  } else connect();
});
setInterval(draw, DRAW_INTERVAL);
connect();
