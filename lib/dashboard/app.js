// Starts the dashboard: connects the buttons and forms of the page to their actions.

import { refreshChart, startChart } from './chart.js';
import { connect, replayAll, toggleDrop, watch } from './connection.js';
import { showDetail, startDetail } from './detail.js';
import { download } from './download.js';
import { button, element, form, input } from './elements.js';
import { startFilter } from './filter.js';
import { select, showPaused, startList } from './list.js';
import { publish } from './publish.js';
import { clearEntries, pause } from './store.js';
import { readSample, showSample } from './tiles.js';
import { drawTimeline } from './timeline.js';
import { beginWith, follow, followAll, measureRates, readTopic, refreshTopics } from './topics.js';
import { startTour } from './tour.js';

const REFRESH_INTERVAL = 2000;
const CHART_INTERVAL = 5000;

let isPaused = false;

button('drop').addEventListener('click', toggleDrop);
button('history').addEventListener('click', replayAll);
button('pause').addEventListener('click', () => {
  isPaused = !isPaused;
  pause(isPaused);
  showPaused(isPaused);
});
button('export').addEventListener('click', download);
button('clear').addEventListener('click', clearEntries);
input('all').addEventListener('change', () => followAll(input('all').checked));

form('sign-in').addEventListener('submit', (event) => {
  event.preventDefault();
  connect();
  refreshTopics();
  refreshChart();
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
startList(showDetail);
startDetail(() => select(undefined));
startFilter();
watch(({ topic, data }) => {
  const sample = topic === 'system' ? readSample(data) : undefined;
  if (sample !== undefined) showSample(sample);
});
startTour();
startChart();
beginWith(location.hash.slice(1).split(','));
refreshTopics();
refreshChart();
drawTimeline();
setInterval(() => document.hidden || refreshTopics(), REFRESH_INTERVAL);
setInterval(measureRates, REFRESH_INTERVAL);
setInterval(drawTimeline, 1000);
setInterval(() => document.hidden || refreshChart(), CHART_INTERVAL);
