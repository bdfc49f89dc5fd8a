// Starts the dashboard: connects the buttons and forms of the page to their actions.
import { connect, listenTo, toggleDrop } from './connection.js';
import { button, element, form, input } from './elements.js';
import { clearEvents, drawRate, togglePause } from './events.js';
import { formatId, parseId } from './protocol.js';
import { publish } from './publish.js';
import { askPosition } from './requests.js';
import { beginWith, follow, followAll, readTopic, refreshTopics } from './topics.js';

const REFRESH_INTERVAL = 2000;

button('drop').addEventListener('click', toggleDrop);
button('pause').addEventListener('click', togglePause);
button('clear').addEventListener('click', clearEvents);
button('history').addEventListener('click', async () => {
  const position = parseId(await askPosition());
  clearEvents();
  connect(position === undefined ? '' : formatId(position.epoch, 0));
});

input('all').addEventListener('change', () => followAll(input('all').checked));
input('listen').addEventListener('change', () => {
  for (const type of input('listen')
    .value.split(/[\s,]+/)
    .filter(Boolean))
    listenTo(type);
});

form('add').addEventListener('submit', (event) => {
  event.preventDefault();
  const topic = readTopic(input('add-name'));
  if (topic === undefined) return;
  input('add-name').value = '';
  follow(topic);
});

form('publish').addEventListener('submit', (event) => {
  event.preventDefault();
  publish();
});
input('data').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form('publish').requestSubmit();
});

element('example').textContent = `curl -d "hello" ${new URL('topics/demo', location.href)}`;
beginWith(location.hash.slice(1).split(','));
refreshTopics();
setInterval(() => document.hidden || refreshTopics(), REFRESH_INTERVAL);
setInterval(drawRate, 1000);
