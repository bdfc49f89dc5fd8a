// Reads one answer to a request for a stream: its events, of which topic each is, and its bytes as they came.
import { createDecoder } from './decode.js';
import { authorization } from './requests.js';

/**
 * One event of a stream.
 *
 * @typedef {object} StreamEvent
 * @property {string} type
 * @property {string} id The last event ID in force.
 * @property {string} topic `''` for control events.
 * @property {string} data
 * @property {string} raw The block of the event, as the server sent it.
 *
 * @typedef {object} StreamHandlers
 * @property {() => void} onOpen Called when the stream begins.
 * @property {() => void} onBytes Called for everything that comes, heartbeats too.
 * @property {(event: StreamEvent) => void} onEvent
 * @property {(ms: number) => void} onRetry
 */

/** Milliseconds of work after which the browser may draw. */
const TURN_TIME = 8;
const HIDDEN_WAIT = 50;
const TOPIC = 'topic ';

/**
 * Resolves once the stream has ended, or with the answer where it is none. Does not use EventSource, which delivers
 * only the events whose names are known beforehand, and no comments, which name the topics.
 *
 * @param {string} url
 * @param {AbortSignal} signal
 * @param {StreamHandlers} handlers
 * @returns {Promise<Response>}
 * @throws what `fetch` rejects with.
 */
export async function readStream(url, signal, { onOpen, onBytes, onEvent, onRetry }) {
  const headers = { accept: 'text/event-stream', ...authorization() };
  const response = await fetch(url, { headers, cache: 'no-store', signal });
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream');
  if (!response.ok || !isStream || response.body === null) return response;
  onOpen();
  const read = createReader(onEvent, onRetry);
  const reader = response.body.getReader();
  let since = performance.now();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    onBytes();
    read(next.value);
    if (performance.now() - since < TURN_TIME) continue;
    await drawn();
    if (signal.aborted) break;
    since = performance.now();
  }
  return response;
}

/**
 * Resolves in the next frame. A hidden page has none, and its timers are slowed down to one a minute.
 *
 * @returns {Promise<void>}
 */
function drawn() {
  return new Promise((resolve) => {
    if (document.hidden) return nextTask(resolve);
    requestAnimationFrame(() => resolve());
    setTimeout(resolve, HIDDEN_WAIT);
  });
}

/** @param {() => void} resolve */
function nextTask(resolve) {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    resolve();
  };
  port2.postMessage(undefined);
}

/**
 * Gives the decoder one block at a time, so that each event is known with its block. The server ends lines with LF.
 *
 * @param {(event: StreamEvent) => void} onEvent
 * @param {(ms: number) => void} onRetry
 * @returns {(bytes: Uint8Array) => void}
 */
function createReader(onEvent, onRetry) {
  const text = new TextDecoder();
  let raw = '';
  let topic = '';
  let rest = '';
  const decoder = createDecoder({
    maxLineBytes: Infinity,
    maxEventBytes: Infinity,
    onComment: (comment) => {
      // The server names it in the first one; a comment that was published comes after that.
      if (topic === '' && comment.startsWith(TOPIC)) topic = comment.slice(TOPIC.length);
    },
    onRetry,
    onEvent: ({ event, lastEventId, data }) => onEvent({ type: event, id: lastEventId, topic, data, raw }),
  });
  return (bytes) => {
    // The end of a block may have come in the chunk before, but for its last line feed.
    let from = Math.max(0, rest.length - 1);
    rest += text.decode(bytes, { stream: true });
    let start = 0;
    for (let end = rest.indexOf('\n\n', from); end !== -1; end = rest.indexOf('\n\n', from)) {
      raw = rest.slice(start, end + 2);
      topic = '';
      start = from = end + 2;
      decoder.feed(raw);
    }
    rest = rest.slice(start);
  };
}
