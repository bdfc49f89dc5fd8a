// What the page shows: its own stream, and what the readers say of theirs.

const mine = { number: undefined, events: 0, streams: 0, gaps: 0, holes: 0 };
const rates = [];
let before;

const events = new EventSource('/events?topic=numbers&topic=readers');
// Not at 'open': while all servers are away, HAProxy itself answers, and says that.
events.addEventListener('sluice:ready', () => {
  mine.streams++;
  // HAProxy sets the cookie with each stream.
  show('server', /\bserver=(\w+)/.exec(document.cookie)?.[1] ?? 'unknown');
  show('reconnects', mine.streams - 1);
});
events.addEventListener('sluice:gap', () => {
  mine.gaps++;
  mine.number = undefined;
});
events.addEventListener('message', ({ data }) => {
  if (data.startsWith('{')) showReaders(JSON.parse(data));
  else count(Number(data));
});

function count(number) {
  if (mine.number !== undefined) mine.holes += number - mine.number - 1;
  mine.number = number;
  mine.events++;
}

function showReaders(now) {
  for (const name of ['open', 'reconnects']) show(`all-${name}`, now[name]);
  for (const name of ['gaps', 'holes', 'duplicates']) showFaults(`all-${name}`, now[name]);
  const all = Math.max(1, now.open);
  for (const name of ['one', 'two', 'three']) {
    const streams = now.servers[name] ?? 0;
    document.getElementById(name).value = streams / all;
    show(`${name}-streams`, streams);
  }
  if (before !== undefined) draw(before, now);
  before = now;
}

function draw(earlier, later) {
  const seconds = Math.max(0.001, (later.at - earlier.at) / 1000);
  show('all-rate', Math.round((later.events - earlier.events) / seconds));
  rates.push((later.reconnects - earlier.reconnects) / seconds);
  if (rates.length > 120) rates.shift();
  const peak = Math.max(...rates);
  const points = rates.map((rate, i) => `${120 - rates.length + i},${40 - (38 * rate) / Math.max(1, peak)}`);
  document.getElementById('line').setAttribute('points', points.join(' '));
  show('peak', Math.round(peak));
}

function show(id, value) {
  document.getElementById(id).textContent = value;
}

function showFaults(id, value) {
  show(id, value);
  document.getElementById(id).classList.toggle('fault', value > 0);
}

setInterval(() => {
  show('rate', mine.events);
  if (mine.number !== undefined) show('number', mine.number);
  showFaults('gaps', mine.gaps);
  showFaults('holes', mine.holes);
  mine.events = 0;
}, 1000);
