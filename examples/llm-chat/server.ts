// A chat with a language model, whose answers go on while nobody reads, and can be stopped from any page.
// Needs `model.ts`, `page.html`, `page.js` and `page.css` beside it, the folder `shared`, and sluice.
//
//   npx tsx examples/llm-chat/server.ts [--port 8080] [--delay 60]
//
// With OPENAI_BASE_URL, and OPENAI_API_KEY and OPENAI_MODEL if needed, it asks another model than its own.

import { randomUUID } from 'node:crypto';
import { Generations } from '../../lib/generations.ts';
import { decode, Hub, type HubEvent, serveEvents } from '../../lib/index.ts';
import { httpError, sendJson } from '../../lib/problem.ts';
import { argumentsOf, numberOf, readBody, serve, textOf } from '../shared/site.ts';
import { type Message, startModel } from './model.ts';

interface Chat {
  /** Also the name of the topic that has its questions. */
  readonly id: string;
  /** What the model is sent. */
  readonly messages: Message[];
  /** The topic of the answer that is being written. */
  running: string | undefined;
}

const MAX_QUESTION_LENGTH = 2000;
const MAX_CHATS = 1000;

const { values } = argumentsOf({
  options: {
    port: { type: 'string', default: '8080' },
    /** Milliseconds for a word of the own model. */
    delay: { type: 'string', default: '60' },
  },
});
const own = process.env.OPENAI_BASE_URL
  ? undefined
  : await startModel(numberOf('--delay', values.delay, 0, 60_000));
const api = own?.url ?? process.env.OPENAI_BASE_URL;

const hub = new Hub({ retry: 500 });
/** Pages that come back show the answers of so long ago; default ten minutes. */
const generations = new Generations(hub, { ttl: 24 * 60 * 60 * 1000 });
const chats = new Map<string, Chat>();

await serve({
  folder: import.meta.dirname,
  port: numberOf('--port', values.port, 0, 65_535),
  // The names are random, so only those who were given a link can read a chat and its answers.
  events: serveEvents(hub, { path: '/events', may: (_principal, topic) => /^(chat|answer)-/.test(topic) }),
  routes: {
    'POST /chats': (_req, res) => {
      const chat: Chat = { id: `chat-${randomUUID()}`, messages: [], running: undefined };
      chats.set(chat.id, chat);
      const [oldest] = chats.keys();
      if (chats.size > MAX_CHATS && oldest !== undefined) chats.delete(oldest);
      sendJson(res, 201, { id: chat.id });
    },
    'GET /chats/:id': (_req, res, params) => sendJson(res, 200, { id: chatOf(params.id).id }),
    'POST /chats/:id/questions': async (req, res, params) => {
      const chat = chatOf(params.id);
      const text = textOf(await readBody(req), 'text', MAX_QUESTION_LENGTH);
      sendJson(res, 201, await answer(chat, text));
    },
    'DELETE /chats/:id/answer': async (_req, res, params) => {
      const { running } = chatOf(params.id);
      const stopped = running !== undefined && (await generations.stop(running));
      sendJson(res, 200, { stopped });
    },
  },
  // Readers hear that their answers have failed. Then the streams end.
  onStopping: () => generations.close(),
  onStopped: () => {
    own?.server.close();
    return hub.close();
  },
});

/** Begins an answer, and tells the pages of the chat where it is. */
async function answer(chat: Chat, question: string): Promise<object> {
  const topic = `answer-${randomUUID()}`;
  if (chat.running !== undefined)
    throw httpError({ status: 409, error: 'busy', message: 'an answer is being written: stop it, or wait' });
  chat.running = topic;
  const messages: Message[] = [...chat.messages, { role: 'user', content: question }];
  let text = '';
  try {
    const generation = await generations.run(topic, ({ signal }) =>
      tokens(messages, signal, (token) => {
        text += token;
      }),
    );
    const { start } = generation;
    chat.messages.push(...messages.slice(-1));
    generation.done.then((outcome) => {
      if (outcome === 'failed') console.error(generation.cause);
      // The model gets to see what it has written before it was stopped.
      chat.messages.push({ role: 'assistant', content: text });
      chat.running = undefined;
    });
    hub.publish(chat.id, { event: 'question', json: { text: question, topic, start } });
    return { topic, start };
  } catch (error) {
    chat.running = undefined;
    throw error;
  }
}

/** What the model yields. `signal` ends the request, so that no more tokens are made. */
async function* tokens(
  messages: readonly Message[],
  signal: AbortSignal,
  onToken: (token: string) => void,
): AsyncGenerator<HubEvent> {
  const response = await fetch(`${api}/chat/completions`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      authorization: `Bearer ${process.env.OPENAI_API_KEY ?? ''}`,
    },
    body: JSON.stringify({ model: process.env.OPENAI_MODEL ?? 'small', messages, stream: true }),
    signal,
  });
  if (!response.ok || response.body === null) throw new Error(`the model answers ${response.status}`);
  for await (const { data } of decode(response.body)) {
    if (data === '[DONE]') return;
    const { choices, error } = JSON.parse(data);
    if (error !== undefined) throw new Error(error.message);
    const token: unknown = choices?.[0]?.delta?.content;
    if (typeof token !== 'string' || token === '') continue;
    onToken(token);
    yield { event: 'token', json: token };
  }
  throw new Error('the answer of the model was cut off');
}

function chatOf(id = ''): Chat {
  const chat = chats.get(id);
  if (chat !== undefined) return chat;
  throw httpError({ status: 404, error: 'not-found', message: 'there is no such chat' });
}
