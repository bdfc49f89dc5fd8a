// Starts jobs, and shows the one whose id is in the address: from its beginning, whenever the page is opened.
import { ask, byId, make, showState, sizeOf, watch } from '/shared/page.js';

const MAX_ROWS = 500;
const DRAW_INTERVAL = 100;
const ENDS = { done: 'done', cancelled: 'cancelled', failed: 'failed' };

let events;
/** What has arrived and is not drawn yet. */
let waiting = { files: [], progress: undefined };

function open() {
  events?.close();
  const [id, start] = location.hash.slice(1).split('/');
  byId('job').hidden = start === undefined;
  if (start === undefined) return;
  waiting = { files: [], progress: undefined };
  byId('files').replaceChildren();
  byId('note').hidden = true;
  byId('result').hidden = true;
  byId('cancel').disabled = false;
  byId('title').textContent = `Job ${id.slice(0, 8)}`;

  // Of the progress, who comes late needs only the newest.
  events = watch(new EventSource(`/events/${id}?lastEventId=${start}&conflate=1`));
  events.addEventListener('progress', ({ data }) => {
    waiting.progress = JSON.parse(data);
  });
  events.addEventListener('file', ({ data }) => waiting.files.push(JSON.parse(data)));
  // How many is not known: ids count the events of all jobs.
  events.addEventListener('sluice:gap', () => note('Events before these are not kept any more.'));
  events.addEventListener('error', ({ target }) => {
    if (target.readyState === EventSource.CLOSED) note('The server does not know this job any more.');
  });
  for (const [type, text] of Object.entries(ENDS))
    events.addEventListener(type, ({ data }) => {
      // The stream ends as well. Without this, the browser would come back to hear so.
      events.close();
      if (type === 'done') waiting.progress = JSON.parse(data);
      draw();
      const { message, seconds } = JSON.parse(data);
      byId('cancel').disabled = true;
      byId('result').hidden = type !== 'done';
      byId('result').href = `/jobs/${id}/result`;
      showState(type === 'done' ? 'live' : 'closed', text);
      if (seconds !== undefined) byId('done').textContent += `, in ${seconds} s`;
      if (message !== undefined) byId('done').textContent = message;
      list();
    });
}

function note(text) {
  byId('note').textContent = text;
  byId('note').hidden = false;
}

function draw() {
  const { files, progress } = waiting;
  waiting = { files: [], progress: undefined };
  for (const file of files.slice(-MAX_ROWS)) byId('files').prepend(rowOf(file));
  while (byId('files').childElementCount > MAX_ROWS) byId('files').lastElementChild.remove();
  if (progress === undefined) return;
  byId('progress').max = progress.ofBytes || 1;
  byId('progress').value = progress.ofBytes === 0 ? 1 : progress.bytes;
  byId('done').textContent =
    `${progress.files} of ${progress.ofFiles} files, ${sizeOf(progress.bytes)} of ${sizeOf(progress.ofBytes)}`;
}

function rowOf({ path, digest, error }) {
  return make('li', {}, make('span', {}, digest?.slice(0, 12) ?? error), make('span', {}, path));
}

async function list() {
  const { isGood, answer } = await ask('GET', '/jobs');
  if (!isGood) return;
  byId('folder').textContent = answer.folder;
  byId('jobs').replaceChildren(
    ...answer.jobs.map(({ id, start, startedAt, state }) => {
      const time = new Date(startedAt).toLocaleTimeString();
      return make('li', {}, make('a', { href: `#${id}/${start}` }, id.slice(0, 8)), ` of ${time}: ${state}`);
    }),
  );
}

byId('begin').addEventListener('click', async () => {
  const { isGood, answer } = await ask('POST', '/jobs');
  if (!isGood) return;
  location.hash = `${answer.id}/${answer.start}`;
  list();
});
byId('cancel').addEventListener('click', () =>
  ask('DELETE', `/jobs/${location.hash.slice(1).split('/')[0]}`),
);
addEventListener('hashchange', () => {
  open();
  byId('title').focus();
});
setInterval(draw, DRAW_INTERVAL);
open();
list();
