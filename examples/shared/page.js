// What the pages of the examples have in common.

/** The element with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Makes an element of these properties, and of children that are elements or text. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Shows in `#state` whether the page is connected. */
export function showState(state, text = state) {
  const element = byId('state');
  if (element.dataset.state === state && element.textContent === text) return;
  element.dataset.state = state;
  element.textContent = text;
}

/** Shows in `#state` what a source does by itself: it opens, and comes back where it was cut off. */
export function watch(events) {
  events.addEventListener('open', () => showState('live'));
  events.addEventListener('error', () => {
    if (events.readyState === EventSource.CLOSED) showState('closed', 'disconnected');
    else showState('lost', 'reconnecting');
  });
  return events;
}

/** Sends a request with a JSON body. Returns the answer; shows in `#answer` why it was refused. */
export async function ask(method, path, body) {
  const headers = { 'content-type': 'application/json' };
  const init = body === undefined ? { method } : { method, headers, body: JSON.stringify(body) };
  const response = await fetch(path, init).catch(() => undefined);
  const answer = await response?.json().catch(() => ({}));
  const isGood = response?.ok === true;
  const problem = response === undefined ? 'The server does not answer.' : (answer.message ?? '');
  if (byId('answer') !== null) byId('answer').textContent = isGood ? '' : problem;
  return { status: response?.status ?? 0, isGood, answer };
}

/** The number of events before an id in the life of its hub. */
export function seqOf(id) {
  return Number(/-(\d+)$/.exec(id)?.[1] ?? 0);
}

const bytes = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

/** A number of bytes as a person reads it. */
export function sizeOf(count) {
  let [value, unit] = [count, 'B'];
  for (const next of ['KB', 'MB', 'GB', 'TB']) {
    if (value < 1000) break;
    [value, unit] = [value / 1000, next];
  }
  return `${bytes.format(value)} ${unit}`;
}
