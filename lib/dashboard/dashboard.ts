// The one page of the reference server: its topics and live events, through the browser's own EventSource.
// Stands alone: copy this file by itself.

import { createHash } from 'node:crypto';

/*
 * The page asks for `topics`, `position`, `events?topic=…` and `topics/{topic}` beside its own address.
 * Nothing is built or fetched from elsewhere, and what arrives is only ever set as text: the policy below
 * admits this style and this script by their hashes, and forbids markup made of strings altogether.
 *
 * In the script: no backtick and no `${`, since it lives in a template.
 */

const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #eef3f4; --panel: #fff; --sunk: #f5f8f9; --line: #d5e0e3; --ink: #10242b; --soft: #546b73;
  --water: #0a7285; --water-soft: #d8eef1; --on-water: #fff;
  --ready: #1d7a46; --gap: #a35200; --gap-soft: #fdf0dc; --end: #b3273f; --end-soft: #fce8eb;
  --again: #5b4bc4; --again-soft: #eeebfc;
  --text: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  --code: ui-monospace, "SF Mono", "Cascadia Code", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #081216; --panel: #0f1d23; --sunk: #0b171c; --line: #21363f; --ink: #dcebef; --soft: #8ba6af;
    --water: #4fd0df; --water-soft: #11343c; --on-water: #06242a;
    --ready: #62cf8e; --gap: #f2ab4c; --gap-soft: #33240f; --end: #ff8095; --end-soft: #361820;
    --again: #ab9dff; --again-soft: #221d45;
  }
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 14px/1.45 var(--text); }
h1, h2, h3, p, ol, ul, dl, dd, pre { margin: 0; padding: 0; }
h2 { font-size: 13px; font-weight: 650; letter-spacing: .01em; }
code, .id, time, .position { font-family: var(--code); font-variant-numeric: tabular-nums; }
button, input, textarea {
  font: inherit; color: inherit; border: 1px solid var(--line); border-radius: 7px; background: var(--sunk);
  padding: 6px 10px; min-width: 0;
}
textarea { width: 100%; resize: vertical; min-height: 76px; font: 13px/1.5 var(--code); }
input::placeholder, textarea::placeholder { color: var(--soft); opacity: .8; }
button { cursor: pointer; font-weight: 550; background: var(--panel); white-space: nowrap; }
button:hover { border-color: var(--water); }
button.main { background: var(--water); border-color: var(--water); color: var(--on-water); }
button:disabled { opacity: .5; cursor: default; }
:focus-visible { outline: 2px solid var(--water); outline-offset: 2px; }
input[type=checkbox] { accent-color: var(--water); width: 16px; height: 16px; margin: 0; padding: 0; flex: none; }
label > span { display: block; font-size: 12px; color: var(--soft); margin-bottom: 3px; }

.page { display: grid; grid-template: "head head" auto "side main" minmax(0, 1fr) / 312px minmax(0, 1fr); gap: 14px; height: 100vh; height: 100dvh; padding: 14px; }
.head { grid-area: head; display: flex; flex-wrap: wrap; align-items: center; gap: 8px 16px; }
.side { grid-area: side; display: flex; flex-direction: column; gap: 14px; overflow: auto; }
.main-area { grid-area: main; display: flex; flex-direction: column; gap: 14px; min-height: 0; }
.panel { background: var(--panel); border: 1px solid var(--line); border-radius: 12px; }
.side .panel { padding: 14px; }
.panel-head { display: flex; align-items: center; justify-content: space-between; gap: 8px; margin-bottom: 10px; }

h1 { display: flex; align-items: center; gap: 9px; font-size: 20px; font-weight: 700; letter-spacing: -.02em; }
h1 svg { width: 26px; height: 26px; color: var(--water); }
.state { display: inline-flex; align-items: center; gap: 7px; padding: 4px 12px 4px 10px; border-radius: 99px; background: var(--panel); border: 1px solid var(--line); font-weight: 600; }
.state::before { content: ""; width: 9px; height: 9px; border-radius: 50%; background: var(--soft); }
.state[data-state=live]::before { background: var(--ready); box-shadow: 0 0 0 3px color-mix(in srgb, var(--ready) 25%, transparent); }
.state[data-state=connecting]::before, .state[data-state=lost]::before, .state[data-state=dropped]::before { background: var(--gap); }
.state[data-state=closed]::before, .state[data-state=ended]::before { background: var(--end); }
@media (prefers-reduced-motion: no-preference) {
  .state[data-state=lost]::before, .state[data-state=connecting]::before { animation: pulse 1s infinite alternate; }
  .row.fresh { animation: arrive .45s ease-out; }
}
@keyframes pulse { to { opacity: .25; } }
@keyframes arrive { from { background-color: var(--water-soft); } }
.facts { display: flex; gap: 4px 18px; flex-wrap: wrap; color: var(--soft); font-size: 12.5px; }
.facts div { display: flex; gap: 6px; align-items: baseline; }
.facts dd { color: var(--ink); }
.actions { margin-left: auto; display: flex; gap: 8px; flex-wrap: wrap; }

.topics { list-style: none; display: flex; flex-direction: column; gap: 2px; max-height: 38vh; overflow: auto; margin: 0 -6px; }
.topic { display: flex; gap: 10px; align-items: center; padding: 6px; border-radius: 8px; cursor: pointer; }
.topic:hover { background: var(--sunk); }
.topic > span { flex: 1; min-width: 0; margin: 0; color: inherit; font-size: inherit; }
.topic b { display: block; font: 600 13px/1.4 var(--code); overflow-wrap: anywhere; }
.topic small { color: var(--soft); font-size: 12px; }
.topic .over { color: var(--end); font-weight: 600; }
.hint { color: var(--soft); font-size: 12.5px; }
.all { display: flex; gap: 7px; align-items: center; font-size: 12.5px; color: var(--soft); cursor: pointer; }
.inline { display: flex; gap: 8px; margin-top: 10px; }
.inline input { flex: 1; }
.fields { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; }
.fields > .wide { grid-column: 1 / -1; }
.fields input { width: 100%; }
.answer { font-size: 12.5px; overflow-wrap: anywhere; min-height: 1.45em; color: var(--soft); }
.answer[data-kind=good] { color: var(--ready); }
.answer[data-kind=bad] { color: var(--end); }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(108px, 1fr)); gap: 10px; }
.tile { position: relative; overflow: hidden; padding: 10px 12px 34px; }
.tile h3 { font-size: 12px; font-weight: 500; color: var(--soft); white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.tile p { font-size: 21px; font-weight: 650; letter-spacing: -.02em; font-variant-numeric: tabular-nums; line-height: 1.25; white-space: nowrap; }
.tile p span { font-size: 12px; font-weight: 500; color: var(--soft); margin-left: 3px; letter-spacing: 0; }
.tile svg { position: absolute; inset: auto 0 0 0; width: 100%; height: 30px; }
.spark-line { fill: none; stroke: var(--water); stroke-width: 1.5; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.spark-area { fill: var(--water); opacity: .13; }

.stream { display: flex; flex-direction: column; flex: 1; min-height: 0; overflow: hidden; }
.bar { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 12px; padding: 10px 14px; border-bottom: 1px solid var(--line); }
.bar .flow { width: 150px; height: 24px; color: var(--water); }
.bar .grow { flex: 1; }
.bar label { display: flex; align-items: center; gap: 8px; }
.bar label > span { margin: 0; }
.bar label input { width: 190px; }
.log { list-style: none; overflow: auto; flex: 1; min-height: 0; overscroll-behavior: contain; }
.row { position: relative; display: grid; grid-template-columns: 92px 104px 172px minmax(0, 1fr); gap: 0 12px; padding: 5px 14px 5px 40px; font-size: 13px; align-items: baseline; }
.row::before { content: ""; position: absolute; left: 20px; top: 0; bottom: 0; border-left: 2px solid var(--water); opacity: .35; }
.row::after { content: ""; position: absolute; left: 16px; top: 10px; width: 10px; height: 10px; border-radius: 50%; background: var(--water); border: 2px solid var(--panel); box-sizing: border-box; }
.row time, .row .id { font-size: 12px; color: var(--soft); white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.kind { justify-self: start; max-width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font: 600 11.5px/1.6 var(--code); padding: 0 7px; border-radius: 5px; background: var(--water-soft); color: var(--water); }
.data { font-family: var(--code); font-size: 12.5px; overflow-wrap: anywhere; min-width: 0; white-space: pre-wrap; }
.data summary { cursor: pointer; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.data details[open] summary { color: var(--soft); }
.data .sample summary { color: var(--soft); font-family: var(--text); }
.data pre { font: inherit; white-space: pre-wrap; margin-top: 4px; padding: 8px 10px; background: var(--sunk); border: 1px solid var(--line); border-radius: 7px; max-height: 320px; overflow: auto; }
.row.again::after { background: var(--panel); border-color: var(--again); }
.row.again .kind { background: var(--again-soft); color: var(--again); }
.row.again .data::before { content: "replayed"; font: 600 11px/1.5 var(--text); color: var(--again); border: 1px solid currentColor; border-radius: 4px; padding: 0 5px; margin-right: 8px; display: inline-block; }
.row.again .data:has(details)::before { float: left; }
.row.ready, .row.gap, .row.end, .row.note { font-family: var(--text); padding-top: 8px; padding-bottom: 8px; }
.row.ready .data, .row.gap .data, .row.end .data, .row.note .data { font-family: var(--text); font-size: 13px; }
.row.ready::after { background: var(--ready); border-radius: 2px; top: 13px; }
.row.ready .kind { background: transparent; color: var(--ready); box-shadow: inset 0 0 0 1px currentColor; }
.row.gap { background: var(--gap-soft); }
.row.gap::before, .row.note::before { border-left-style: dashed; border-left-color: var(--gap); opacity: 1; }
.row.gap::after { background: var(--gap); border-radius: 2px; transform: rotate(45deg); top: 13px; border-color: var(--gap-soft); }
.row.gap .kind { background: var(--gap); color: var(--panel); }
.row.gap .data b { color: var(--gap); }
.row.end { background: var(--end-soft); }
.row.end::after { background: var(--end); border-radius: 2px; top: 13px; border-color: var(--end-soft); }
.row.end .kind { background: var(--end); color: var(--panel); }
.row.note .data, .row.note .kind { color: var(--soft); }
.row.note .kind { background: transparent; padding: 0; }
.row.note::after { background: var(--panel); border-color: var(--gap); top: 13px; }
.empty { padding: 40px 24px; text-align: center; color: var(--soft); }
.empty code { display: inline-block; text-align: left; margin-top: 10px; padding: 8px 12px; border-radius: 7px; background: var(--sunk); border: 1px solid var(--line); color: var(--ink); font-size: 12.5px; overflow-wrap: anywhere; }

@media (max-width: 1080px) { .row { grid-template-columns: 92px 96px minmax(0, 1fr); } .row .id { display: none; } }
@media (max-width: 760px) {
  .page { display: flex; flex-direction: column; height: auto; padding: 10px; gap: 10px; }
  .main-area, .side { display: contents; }
  .stream { flex: none; height: 72vh; order: 1; }
  .side > .panel { order: 2; }
  .actions { margin-left: 0; width: 100%; }
  .actions button { flex: 1; }
  .tiles { display: flex; overflow: auto; margin: 0 -10px; padding: 0 10px; scroll-snap-type: x proximity; }
  .tile { flex: 0 0 132px; scroll-snap-align: start; scroll-margin-left: 10px; }
  input, textarea { font-size: 16px; }
  button { padding: 8px 12px; }
  .bar .flow { flex: 1; min-width: 90px; }
  .bar .grow { display: none; }
  .bar label { flex: 1 1 100%; order: 1; } .bar label input { flex: 1; }
  .bar button { padding: 6px 10px; }
  .row { grid-template-columns: auto auto minmax(0, 1fr); padding: 7px 10px 7px 34px; gap: 1px 8px; }
  .row::before { left: 16px; } .row::after { left: 12px; }
  .row .id { display: block; text-align: right; }
  .row .data { grid-column: 1 / -1; }
  .row.again .data { word-break: break-all; }
  .topics { max-height: none; }
}
`;

const SCRIPT = String.raw`
'use strict';
(function () {
  var MAX_ROWS = 500;
  var MAX_TOPICS = 50;
  var MAX_LISTED = 200;
  var MAX_SHOWN = 20000;
  var DROP_SECONDS = 5;
  var SPAN = 60;
  var TOPIC = /^[A-Za-z0-9._~:-]{1,200}$/;
  var KINDS = new Map([['sluice:ready', 'ready'], ['sluice:gap', 'gap'], ['sluice:end', 'end'], ['sluice:error', 'end']]);
  var GAPS = new Map([
    ['evicted', 'older than what the server still remembers'],
    ['unknown-epoch', 'the last id is from another life of the server'],
    ['ahead', 'the last id is ahead of the server'],
    ['truncated', 'the store was cut'],
    ['store-changed', 'the store is another one'],
    ['malformed', 'the last id cannot be read']
  ]);

  function $(id) { return document.getElementById(id); }

  function make(tag, className, text) {
    var node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function shape(tag, attributes) {
    var node = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (var name in attributes) node.setAttribute(name, attributes[name]);
    return node;
  }

  function parsed(text) {
    try { return JSON.parse(text); } catch (error) { return undefined; }
  }

  function count(number, one, many) { return number.toLocaleString('en') + ' ' + (number === 1 ? one : many); }

  // ── figures: the unit is in the name ──

  function figure(name, value) {
    if (typeof value !== 'number' || !isFinite(value)) return ['–', ''];
    if (/Bytes$/.test(name)) return bytes(value);
    if (/Percent$/.test(name)) return [value.toFixed(value < 10 ? 1 : 0), '%'];
    if (/Ms$/.test(name)) return [value.toFixed(value < 10 ? 2 : 0), 'ms'];
    if (/Seconds$/.test(name)) return [value.toLocaleString('en'), 's'];
    return [value.toLocaleString('en', { maximumFractionDigits: 2 }), ''];
  }

  function bytes(value) {
    var units = ['B', 'kB', 'MB', 'GB', 'TB'];
    var i = 0;
    while (value >= 999.5 && i < units.length - 1) { value /= 1000; i += 1; }
    return [i === 0 || value >= 99.5 ? Math.round(value).toLocaleString('en') : value.toFixed(1), units[i]];
  }

  // ── the connection ──

  var source = null;
  var connection = 0;     // which EventSource, or which of its reconnects, an entry came by
  var lastId = '';
  var head = '';          // what was published up to here is replayed on this connection, not live
  var known = [];
  var followed = new Set();
  var followsAll = true;
  var names = new Set(['message', 'system', 'sluice:ready', 'sluice:gap', 'sluice:end', 'sluice:error']);
  var dropTimer = 0;
  var needsTicket = false;

  function setState(state, text) {
    $('state').dataset.state = state;
    $('state').textContent = text;
    var waits = state === 'dropped' || state === 'closed' || state === 'ended';
    $('drop').textContent = waits ? 'Reconnect now' : 'Drop for ' + DROP_SECONDS + ' s';
    $('drop').disabled = state === 'idle';
  }

  function disconnect() {
    clearInterval(dropTimer);
    if (source !== null) source.close();
    source = null;
    connection += 1;
  }

  function connect(from) {
    disconnect();
    if (followed.size === 0) return setState('idle', 'no topic');
    setState('connecting', 'connecting');
    var asked = connection;
    askTicket().then(function (ticket) {
      if (asked === connection) open(from, ticket);
    });
  }

  function open(from, ticket) {
    var query = new URLSearchParams();
    followed.forEach(function (topic) { query.append('topic', topic); });
    if (from) query.set('lastEventId', from);
    if (ticket) query.set('ticket', ticket);
    var mine = source = new EventSource('events?' + query);
    var hasBeenOpen = false;
    mine.onopen = function () {
      if (hasBeenOpen) resumed();
      hasBeenOpen = true;
      setState('live', 'live');
    };
    mine.onerror = function (event) {
      // An event that the server calls 'error' comes here too, and is none.
      if (mine !== source || event instanceof MessageEvent) return;
      if (mine.readyState === EventSource.CLOSED) closed('events?' + query, hasBeenOpen);
      else lost();
    };
    names.forEach(function (name) { mine.addEventListener(name, receive); });
  }

  // A token cannot be put into an EventSource; what it can be given is a ticket, good for one connection.
  function askTicket() {
    if (!needsTicket || !$('token').value) return Promise.resolve('');
    return fetch('tickets', { method: 'POST', headers: authorization() })
      .then(function (response) { return response.json(); })
      .then(function (answer) { return answer.ticket || ''; })
      .catch(function () { return ''; });
  }

  function authorization() {
    return $('token').value ? { Authorization: 'Bearer ' + $('token').value } : {};
  }

  function lost() {
    connection += 1;
    head = '';
    if ($('state').dataset.state !== 'live') return;
    note('connection lost; the browser retries by itself, with its last id');
    setState('lost', 'retrying');
  }

  // An EventSource does not tell why it was turned away; the same request by fetch does.
  function closed(url, hasBeenOpen) {
    var isEnded = $('state').dataset.state === 'ended';
    disconnect();
    if (isEnded) return;
    setState('closed', 'closed');
    var asked = connection;
    var control = new AbortController();
    fetch(url, { headers: { Accept: 'text/event-stream' }, cache: 'no-store', signal: control.signal })
      .then(function (response) {
        if (asked !== connection) return control.abort();
        if (response.status === 204) return note('these topics have ended: there is nothing to come');
        if (response.ok) return control.abort();
        return response.json().then(function (answer) { refused(response.status, answer, hasBeenOpen); });
      })
      .catch(function () {});
  }

  function refused(status, answer, hasBeenOpen) {
    if (status === 401) {
      needsTicket = true;
      $('token-field').hidden = false;
      if (hasBeenOpen && $('token').value) return reconnect(lastId);
    }
    note('turned away with ' + status + ': ' + (answer.message || answer.error));
  }

  // The browser has come back by itself: only now can the server be asked how far it had got.
  function resumed() {
    askPosition().then(function (position) {
      head = position;
      Array.prototype.forEach.call($('log').children, function (row) {
        if (row.entry && row.entry.connection === connection) mark(row, row.entry);
      });
    });
  }

  function askPosition() {
    return fetch('position', { cache: 'no-store', headers: authorization() })
      .then(function (response) { return response.json(); })
      .then(function (answer) { return answer.position || ''; })
      .catch(function () { return ''; });
  }

  // Asks first how far the server is: what then comes up to there was missed, and is a replay.
  function reconnect(from) {
    disconnect();
    setState('connecting', 'connecting');
    var asked = connection;
    askPosition().then(function (position) {
      if (asked !== connection) return;
      head = position;
      connect(from);
    });
  }

  function drop() {
    disconnect();
    note('connection dropped here, on purpose' + (lastId ? ', after ' + lastId : ''));
    var left = DROP_SECONDS;
    setState('dropped', 'dropped');
    $('drop').textContent = 'Reconnect now (' + left + ')';
    dropTimer = setInterval(function () {
      left -= 1;
      $('drop').textContent = 'Reconnect now (' + left + ')';
      if (left === 0) reconnect(lastId);
    }, 1000);
  }

  function receive(event) {
    if (!(event instanceof MessageEvent)) return;
    if (event.lastEventId) lastId = event.lastEventId;
    $('last').textContent = lastId || '–';
    if (event.type === 'sluice:end') setState('ended', 'ended');
    else if (event.type.indexOf('sluice:') !== 0) {
      received += 1;
      rate += 1;
      var value = event.data.charAt(0) === '{' ? parsed(event.data) : undefined;
      var sample = isSample(event.type, value) ? value : undefined;
      if (sample) showSample(sample);
    }
    enqueue({ type: event.type, id: event.lastEventId, data: event.data, sample: sample, at: new Date(), connection: connection });
  }

  // ── the list of events: newest first, bounded ──

  var queue = [];
  var skipped = 0;
  var isPaused = false;
  var drawTimer = 0;
  var received = 0;
  var rate = 0;
  var rates = [];

  function note(text) { enqueue(noteOf(text, new Date())); }

  function noteOf(text, at) { return { isNote: true, type: 'here', data: text, id: '', at: at, connection: connection }; }

  function enqueue(entry) {
    queue.push(entry);
    if (queue.length >= MAX_ROWS) {
      // Never a gap or an end: those are what a reader must not miss.
      queue.splice(Math.max(0, queue.findIndex(function (old) { return !old.isNote && !KINDS.has(old.type); })), 1);
      skipped += 1;
    }
    if (isPaused) showPause();
    else if (drawTimer === 0) drawTimer = setTimeout(draw, 40);
  }

  function draw() {
    drawTimer = 0;
    var log = $('log');
    var entries = queue;
    queue = [];
    if (skipped > 0) {
      entries.unshift(noteOf(count(skipped, 'event', 'events') + ' not shown: more came than a page can draw', entries[0].at));
      skipped = 0;
    }
    var rows = document.createDocumentFragment();
    for (var i = entries.length - 1; i >= 0; i -= 1) rows.append(rowOf(entries[i]));
    log.prepend(rows);
    while (log.children.length > MAX_ROWS) log.lastElementChild.remove();
    $('empty').hidden = log.children.length > 0;
    $('received').textContent = received.toLocaleString('en');
  }

  function rowOf(entry) {
    var kind = entry.isNote ? 'note' : KINDS.get(entry.type);
    var row = make('li', 'row fresh' + (kind ? ' ' + kind : ''));
    var time = make('time', '', clock(entry.at));
    time.dateTime = entry.at.toISOString();
    var label = make('span', 'kind', entry.type);
    label.title = entry.type;
    var id = make('span', 'id', entry.id);
    id.title = entry.id;
    row.append(time, label, id, dataOf(entry, kind));
    if (!kind) { row.entry = entry; mark(row, entry); }
    return row;
  }

  function mark(row, entry) {
    if (entry.connection === connection && isUpTo(entry.id, head)) row.classList.add('again');
  }

  function isUpTo(id, end) {
    var a = /^(\d+)-(\d+)$/.exec(id);
    var b = /^(\d+)-(\d+)$/.exec(end);
    return a !== null && b !== null && a[1] === b[1] && Number(a[2]) <= Number(b[2]);
  }

  function clock(date) {
    function two(number) { return String(number).padStart(2, '0'); }
    return two(date.getHours()) + ':' + two(date.getMinutes()) + ':' + two(date.getSeconds()) + '.' + String(date.getMilliseconds()).padStart(3, '0');
  }

  function dataOf(entry, kind) {
    var cell = make('div', 'data');
    var value = kind ? Object(parsed(entry.data)) : undefined;
    if (kind === 'ready') cell.textContent = 'following ' + list(value.topics) + ', from ' + (entry.id || 'the start');
    else if (kind === 'gap') {
      cell.append(make('b', '', 'Events are missing: ' + value.reason), ' – ' + (GAPS.get(value.reason) || 'for a reason of the server’s own') + '. From ', make('code', '', value.from || 'an unknown place'), ' to ', make('code', '', value.to), ' in ' + list(value.topics) + '.');
    } else if (kind === 'end' && entry.type === 'sluice:end') cell.textContent = 'no more will come in ' + list(value.topics);
    else if (entry.sample) cell.append(folded(entry.data, summaryOf(entry.sample)));
    else if (entry.data.length > 160 || entry.data.indexOf('\n') !== -1) cell.append(folded(entry.data));
    else cell.textContent = entry.data;
    return cell;
  }

  function list(topics) { return Array.isArray(topics) && topics.length > 0 ? topics.join(', ') : 'these topics'; }

  function summaryOf(sample) {
    return TILES.map(function (tile) {
      var path = tile[1].split('.');
      return tile[0] + ' ' + figure(tile[1], sample[path[0]][path[1]]).join(' ').trim();
    }).join(' · ');
  }

  function folded(text, summary) {
    var details = make('details', summary ? 'sample' : '');
    details.append(make('summary', '', summary || text.slice(0, 400).split('\n', 1)[0] || '(an empty line, and more)'));
    details.addEventListener('toggle', function () {
      if (details.children.length > 1) return;
      var value = text.length <= MAX_SHOWN ? parsed(text) : undefined;
      var shown = value !== null && typeof value === 'object' ? JSON.stringify(value, null, 2) : text;
      if (shown.length > MAX_SHOWN) shown = shown.slice(0, MAX_SHOWN) + '\n… and ' + count(shown.length - MAX_SHOWN, 'character', 'characters') + ' more';
      details.append(make('pre', '', shown));
    });
    return details;
  }

  function showPause() {
    $('pause').textContent = isPaused ? 'Resume (' + (queue.length + skipped).toLocaleString('en') + ' new)' : 'Pause';
    $('pause').setAttribute('aria-pressed', String(isPaused));
  }

  // ── tiles ──

  var TILES = [
    ['Host CPU', 'host.cpuPercent'],
    ['Load, 1 min', 'host.load1'],
    ['Host memory', 'host.memoryUsedBytes'],
    ['Server CPU', 'process.cpuPercent'],
    ['Server memory', 'process.rssBytes'],
    ['Loop delay p99', 'eventLoop.p99Ms']
  ];
  var tiles = new Map();
  var sampledAt = '';

  function isSample(type, value) {
    return (type === 'system' || type === 'message') && followed.has('system') && Boolean(value) &&
      Boolean(value.host) && Boolean(value.process) && Boolean(value.eventLoop);
  }

  function showSample(sample) {
    sample.host.memoryUsedBytes = sample.host.memoryTotalBytes - sample.host.memoryAvailableBytes;
    if (String(sample.time) <= sampledAt) return; // a replay of what the tiles have shown
    sampledAt = String(sample.time);
    TILES.concat(others(sample)).forEach(function (tile) {
      var path = tile[1].split('.');
      showTile(tile[0], tile[1], sample[path[0]][path[1]], topOf(path[1], sample));
    });
    $('tiles').hidden = false;
  }

  // What the server adds of its own, such as server.connections.
  function others(sample) {
    var found = [];
    for (var group in sample) {
      if (group === 'host' || group === 'process' || group === 'eventLoop') continue;
      for (var name in Object(sample[group])) {
        if (typeof sample[group][name] === 'number' && found.length < 2) {
          var label = name.replace(/(Bytes|Ms|Percent|Seconds)$/, '').replace(/[A-Z]/g, function (letter) { return ' ' + letter.toLowerCase(); });
          found.push([label.charAt(0).toUpperCase() + label.slice(1), group + '.' + name]);
        }
      }
    }
    return found;
  }

  function topOf(name, sample) {
    return /Percent$/.test(name) ? 100 : name === 'memoryUsedBytes' ? sample.host.memoryTotalBytes : 0;
  }

  function showTile(label, path, value, top) {
    var tile = tiles.get(path) || addTile(label, path);
    var shown = figure(path, value);
    tile.value.firstChild.textContent = shown[0];
    tile.unit.textContent = shown[1];
    tile.past.push(typeof value === 'number' ? value : null);
    if (tile.past.length > SPAN) tile.past.shift();
    drawSpark(tile, top);
  }

  function addTile(label, path) {
    var box = make('article', 'tile panel');
    var tile = { past: [], value: make('p', '', '–'), unit: make('span'), line: shape('path', { 'class': 'spark-line' }), area: shape('path', { 'class': 'spark-area' }) };
    var picture = shape('svg', { viewBox: '0 0 100 30', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
    picture.append(tile.area, tile.line);
    tile.value.append(tile.unit);
    box.append(make('h3', '', label), tile.value, picture);
    tiles.set(path, tile);
    $('tiles').append(box);
    return tile;
  }

  function drawSpark(tile, least) {
    var values = tile.past;
    var top = Math.max.apply(null, [least, 1e-9].concat(values)) * 1.1;
    var step = 100 / (SPAN - 1);
    var left = 100 - (values.length - 1) * step;
    var points = values.map(function (value, i) {
      return (left + i * step).toFixed(2) + ' ' + (29 - 26 * (value || 0) / top).toFixed(2);
    });
    tile.line.setAttribute('d', 'M' + points.join('L'));
    tile.area.setAttribute('d', 'M' + left.toFixed(2) + ' 30L' + points.join('L') + 'L100 30Z');
  }

  function drawFlow() {
    rates.push(rate);
    rate = 0;
    if (rates.length > SPAN) rates.shift();
    var top = Math.max.apply(null, [4].concat(rates));
    $('bars').setAttribute('d', rates.map(function (value, i) {
      var height = value === 0 ? 0.6 : Math.max(1.5, 22 * value / top);
      return 'M' + (121.25 - (rates.length - i) * 2) + ' 24v-' + height.toFixed(2);
    }).join(''));
    $('rate').textContent = rates[rates.length - 1].toLocaleString('en');
  }

  // ── topics ──

  function askTopics() {
    return fetch('topics', { cache: 'no-store', headers: authorization() })
      .then(function (response) {
        if (response.status === 401) {
          needsTicket = true;
          $('token-field').hidden = false;
        }
        return response.json();
      })
      .then(function (answer) {
        if (!answer.topics) return;
        known = answer.topics;
        if (answer.position) $('position').textContent = answer.position;
        if (followsAll) followAll();
        drawTopics();
      })
      .catch(function () {});
  }

  function followAll() {
    var before = followed.size;
    known.forEach(function (topic) {
      if (!topic.ended && followed.size < MAX_TOPICS) followed.add(topic.topic);
    });
    if (followed.size !== before) changed();
    else if (source === null && followed.size === 0) setState('idle', 'no topic yet');
  }

  // Goes on from the last id, so that turning to other topics misses nothing of those that stay.
  function changed() {
    if (!followsAll) history.replaceState(null, '', '#' + Array.from(followed).join(','));
    else if (location.hash) history.replaceState(null, '', location.pathname + location.search);
    if (!followed.has('system')) $('tiles').hidden = true;
    if (lastId) reconnect(lastId);
    else connect('');
  }

  function follow(topic, isWanted) {
    if (!isWanted) followed.delete(topic);
    else if (followed.size < MAX_TOPICS) followed.add(topic);
    followsAll = false;
    drawTopics();
    changed();
  }

  function drawTopics() {
    var rows = known.slice();
    followed.forEach(function (name) {
      if (!rows.some(function (topic) { return topic.topic === name; })) rows.push({ topic: name });
    });
    var isLong = rows.length > MAX_LISTED;
    rows.sort(function (a, b) {
      return (isLong && followed.has(b.topic) - followed.has(a.topic)) || (a.topic < b.topic ? -1 : 1);
    });
    $('all').checked = followsAll;
    $('more').textContent = rows.length === 0 ? 'There is no topic yet: publish the first event below.'
      : isLong ? 'and ' + (rows.length - MAX_LISTED).toLocaleString('en') + ' more: follow one by its name'
      : followed.size >= MAX_TOPICS ? 'One stream follows ' + MAX_TOPICS + ' topics here at most.' : '';
    redraw($('topics'), rows.slice(0, MAX_LISTED));
  }

  // A row that stays is changed in place, so that it keeps the focus.
  function redraw(box, rows) {
    var old = new Map(Array.prototype.map.call(box.children, function (item) { return [item.dataset.topic, item]; }));
    rows.forEach(function (topic, i) {
      var item = old.get(topic.topic) || topicRow(topic.topic);
      old.delete(topic.topic);
      if (box.children[i] !== item) box.insertBefore(item, box.children[i] || null);
      item.querySelector('input').checked = followed.has(topic.topic);
      var about = item.querySelector('small');
      about.textContent = topic.events === undefined ? 'nothing published yet'
        : [count(topic.events, 'event', 'events'), bytes(topic.bytes).join(' '), count(topic.subscribers, 'reader', 'readers')].join(' · ');
      if (topic.ended) about.append(' · ', make('span', 'over', 'ended'));
    });
    old.forEach(function (item) { item.remove(); });
    suggest(rows.map(function (topic) { return topic.topic; }));
  }

  // Not without need: a list of suggestions that is open would close.
  function suggest(topics) {
    var box = $('names');
    if (box.dataset.topics === topics.join()) return;
    box.dataset.topics = topics.join();
    box.replaceChildren.apply(box, topics.map(function (topic) {
      var option = make('option');
      option.value = topic;
      return option;
    }));
  }

  function topicRow(name) {
    var item = make('li');
    item.dataset.topic = name;
    var label = make('label', 'topic');
    var box = make('input');
    box.type = 'checkbox';
    box.addEventListener('change', function () { follow(name, box.checked); });
    var text = make('span');
    text.append(make('b', '', name), make('small'));
    label.append(box, text);
    item.append(label);
    return item;
  }

  // ── publishing ──

  function publish() {
    var topic = $('topic').value.trim();
    var query = new URLSearchParams();
    if ($('event').value) query.set('event', $('event').value);
    if ($('key').value) query.set('key', $('key').value);
    if ($('event').value) listenTo($('event').value);
    if (!known.some(function (other) { return other.topic === topic; }) && !followed.has(topic) && TOPIC.test(topic) && !followsAll) follow(topic, true);
    var headers = Object.assign({ 'Content-Type': 'text/plain; charset=utf-8' }, authorization());
    say('', 'publishing …');
    fetch('topics/' + encodeURIComponent(topic) + (query.size === 0 ? '' : '?' + query), { method: 'POST', headers: headers, body: $('data').value })
      .then(function (response) { return response.json().then(function (answer) { answered(response.status, answer); }); })
      .catch(function (error) { say('bad', 'The server could not be reached: ' + error.message); });
  }

  function answered(status, answer) {
    if (status === 200) {
      say('good', 'published as ' + answer.id);
      $('data').select();
      askTopics();
      return;
    }
    if (status === 401) {
      $('token-field').hidden = false;
      $('token').focus();
    }
    say('bad', status + ': ' + (answer.message || answer.error));
  }

  function say(kind, text) {
    $('answer').dataset.kind = kind;
    $('answer').textContent = text;
  }

  function listenTo(name) {
    if (names.has(name) || names.size > 100) return;
    names.add(name);
    if (source !== null) source.addEventListener(name, receive);
    if (!$('listen').value.split(/[\s,]+/).includes(name)) $('listen').value = ($('listen').value + ' ' + name).trim();
  }

  // ── hands ──

  $('drop').addEventListener('click', function () {
    var state = $('state').dataset.state;
    if (state === 'dropped' || state === 'closed' || state === 'ended') reconnect(lastId);
    else drop();
  });
  $('history').addEventListener('click', function () {
    askPosition().then(function (position) {
      clear();
      reconnect(position ? position.split('-')[0] + '-0' : '');
    });
  });
  $('pause').addEventListener('click', function () {
    isPaused = !isPaused;
    if (!isPaused && queue.length > 0) draw();
    showPause();
  });
  $('clear').addEventListener('click', clear);
  function clear() {
    queue = [];
    skipped = 0;
    $('log').replaceChildren();
    $('empty').hidden = false;
    showPause();
  }
  $('listen').addEventListener('change', function () {
    $('listen').value.split(/[\s,]+/).filter(Boolean).forEach(listenTo);
  });
  $('all').addEventListener('change', function () {
    followsAll = $('all').checked;
    if (followsAll) followAll();
    else changed();
    drawTopics();
  });
  $('add').addEventListener('submit', function (event) {
    event.preventDefault();
    var name = $('add-name').value.trim();
    var fits = TOPIC.test(name);
    $('add-name').setCustomValidity(fits ? '' : 'A topic is 1 to 200 characters of A–Z a–z 0–9 . _ ~ : -');
    if (!fits) return $('add-name').reportValidity();
    $('add-name').value = '';
    follow(name, true);
  });
  $('add-name').addEventListener('input', function () { $('add-name').setCustomValidity(''); });
  $('publish').addEventListener('submit', function (event) {
    event.preventDefault();
    publish();
  });
  $('data').addEventListener('keydown', function (event) {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) $('publish').requestSubmit();
  });

  $('example').textContent = 'curl -d "hello" ' + new URL('topics/demo', location.href);
  var wanted = location.hash.slice(1).split(',').filter(function (name) { return TOPIC.test(name); });
  if (wanted.length > 0) {
    followsAll = false;
    followed = new Set(wanted.slice(0, MAX_TOPICS));
    connect('');
  }
  askTopics();
  setInterval(function () { if (!document.hidden) askTopics(); }, 2000);
  setInterval(drawFlow, 1000);
})();
`;

const LOGO = `<svg viewBox="0 0 32 32" fill="none" stroke="currentColor" stroke-width="2.6" stroke-linecap="round" aria-hidden="true"><path d="M7 3v26M25 3v26"/><path d="M7 7h18v8H7z" fill="currentColor" fill-opacity=".2"/><path d="M3 21q3.25-3 6.5 0t6.5 0 6.5 0 6.5 0M3 27q3.25-3 6.5 0t6.5 0 6.5 0 6.5 0"/></svg>`;

const ICON = `data:image/svg+xml,${encodeURIComponent(LOGO.replace('<svg ', '<svg xmlns="http://www.w3.org/2000/svg" color="#0a8ba1" '))}`;

/**
 * The page, to be served as `text/html; charset=utf-8` with `contentSecurityPolicy` as its
 * `Content-Security-Policy`. It may hang below any path, as long as that path ends in a slash.
 */
export const page: string = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>sluice</title>
<link rel="icon" href="${ICON}">
<style>${STYLE}</style>
</head>
<body>
<div class="page">
<header class="head">
  <h1>${LOGO}sluice</h1>
  <p class="state" id="state" role="status" data-state="idle">no topic</p>
  <dl class="facts">
    <div><dt>last id</dt><dd class="position" id="last">–</dd></div>
    <div><dt>server at</dt><dd class="position" id="position">–</dd></div>
  </dl>
  <div class="actions">
    <button type="button" id="history" title="Connects with the id of the very beginning: what is remembered is replayed, what is not is told as a gap">Replay all</button>
    <button type="button" id="drop" class="main" disabled title="Closes the connection, waits, and comes back with ?lastEventId=">Drop for 5 s</button>
  </div>
</header>

<aside class="side">
  <section class="panel" aria-labelledby="topics-title">
    <div class="panel-head"><h2 id="topics-title">Topics</h2><label class="all"><input type="checkbox" id="all" checked> follow all</label></div>
    <ul class="topics" id="topics"></ul>
    <p class="hint" id="more"></p>
    <form class="inline" id="add"><input id="add-name" maxlength="200" autocomplete="off" spellcheck="false" aria-label="Topic to follow" placeholder="follow by name"><button>Follow</button></form>
  </section>

  <section class="panel" aria-labelledby="publish-title">
    <div class="panel-head"><h2 id="publish-title">Publish</h2><span class="hint">Ctrl + Enter</span></div>
    <form class="fields" id="publish">
      <label class="wide"><span>Topic</span><input id="topic" list="names" value="demo" required maxlength="200" pattern="[A-Za-z0-9._~:\\-]+" title="A–Z a–z 0–9 . _ ~ : -" autocomplete="off" spellcheck="false"></label>
      <datalist id="names"></datalist>
      <label><span>Event name</span><input id="event" placeholder="message" autocomplete="off" spellcheck="false"></label>
      <label><span>Key</span><input id="key" placeholder="none" autocomplete="off" spellcheck="false"></label>
      <label class="wide"><span>Data</span><textarea id="data" spellcheck="false">hello</textarea></label>
      <label class="wide" id="token-field" hidden><span>Token</span><input id="token" type="password" autocomplete="off"></label>
      <button class="main wide">Publish</button>
      <p class="answer wide" id="answer" role="status"></p>
    </form>
  </section>
</aside>

<main class="main-area">
  <section class="tiles" id="tiles" aria-label="System" hidden></section>
  <section class="panel stream" aria-labelledby="events-title">
    <div class="bar">
      <h2 id="events-title">Events</h2>
      <span class="hint"><span id="received">0</span> received · <span id="rate">0</span>/s</span>
      <svg class="flow" viewBox="0 0 120 24" preserveAspectRatio="none" aria-hidden="true"><path id="bars" fill="none" stroke="currentColor" stroke-width="1.5" d=""/></svg>
      <span class="grow"></span>
      <label title="A browser's EventSource only delivers the event names that it was told"><span>Also listen to</span><input id="listen" placeholder="event names" autocomplete="off" spellcheck="false"></label>
      <button type="button" id="pause" aria-pressed="false">Pause</button>
      <button type="button" id="clear">Clear</button>
    </div>
    <p class="empty" id="empty">Nothing has come yet. Publish something with the form, or:<br><code id="example"></code></p>
    <ol class="log" id="log" tabindex="0" aria-label="Events, newest first"></ol>
  </section>
</main>
</div>
<noscript>This page needs JavaScript for its EventSource; <code>curl -N</code> on <code>/events?topic=…</code> does not.</noscript>
<script>${SCRIPT}</script>
</body>
</html>
`;

/** Allows what `page` has in it, and connections to where it came from; nothing else. */
export const contentSecurityPolicy: string = [
  "default-src 'none'",
  `script-src ${hashOf(SCRIPT)}`,
  `style-src ${hashOf(STYLE)}`,
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

function hashOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}
