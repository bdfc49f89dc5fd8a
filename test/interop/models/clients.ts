// The clients of language models that read from us, each seen through the same few functions.

import Anthropic from '@anthropic-ai/sdk';
import { AbstractChat, type ChatState, DefaultChatTransport, readUIMessageStream, type UIMessage } from 'ai';
import OpenAI from 'openai';
import { aiSdk } from '../../../lib/ai-sdk.ts';
import { anthropic } from '../../../lib/anthropic.ts';
import { openaiChat } from '../../../lib/openai-chat.ts';
import { openaiResponses } from '../../../lib/openai-responses.ts';
import type { PipeDialect } from '../../../lib/pipe.ts';
import type { EventStream } from '../../../lib/stream.ts';
import {
  chatChunks,
  chatFailure,
  messagesEvents,
  messagesFailure,
  responsesEvents,
  responsesFailure,
  uiChunks,
  uiFailure,
} from '../../fixtures/models.ts';

export interface Client {
  /** The options for `pipe` with which we speak to it. */
  readonly dialect: () => PipeDialect<never>;
  /** An answer as its API makes it, and the error with which that API fails in the middle of one. */
  readonly answer: readonly object[];
  readonly failure: object;
  /** The message of that error, as the client reports it. */
  readonly failureMessage: RegExp;
  readonly takesText: boolean;
  /** The text as it arrives. Throws what the client throws, or reports as an error. */
  texts(url: string): AsyncIterable<string>;
  /** The whole text, by the client's own way to wait for it. Rejects as the client does. */
  whole(url: string): Promise<string>;
  /**
   * Sends on what the client reads from `url`. The signal stops it while it waits for more: its iterators then
   * do not return before the next chunk.
   */
  relay(url: string, stream: EventStream): Promise<unknown>;
}

const messages = [{ role: 'user' as const, content: 'What are streams?' }];
const model = 'ours';

// ── openai ────────────────────────────────────────────────────────────────────────────────────────────────

const openaiAt = (baseURL: string) => new OpenAI({ apiKey: 'none', baseURL, maxRetries: 0 });

const chat: Client = {
  dialect: openaiChat,
  answer: chatChunks,
  failure: chatFailure,
  failureMessage: /The server had an error\./,
  takesText: true,
  async *texts(url) {
    const chunks = await openaiAt(url).chat.completions.create({ model, messages, stream: true });
    for await (const { choices } of chunks) yield choices[0]?.delta.content ?? '';
  },
  async whole(url) {
    return (await openaiAt(url).chat.completions.stream({ model, messages }).finalContent()) ?? '';
  },
  async relay(url, stream) {
    const { signal } = stream;
    const request = { model, messages, stream: true as const };
    const chunks = await openaiAt(url).chat.completions.create(request, { signal });
    return stream.pipe(chunks, openaiChat());
  },
};

const responses: Client = {
  dialect: openaiResponses,
  answer: responsesEvents,
  failure: responsesFailure,
  failureMessage: /The server had an error\./,
  takesText: false,
  async *texts(url) {
    const events = await openaiAt(url).responses.create({ model, input: 'What are streams?', stream: true });
    for await (const event of events) if (event.type === 'response.output_text.delta') yield event.delta;
  },
  async whole(url) {
    const stream = openaiAt(url).responses.stream({ model, input: 'What are streams?' });
    return (await stream.finalResponse()).output_text;
  },
  async relay(url, stream) {
    const { signal } = stream;
    const request = { model, input: 'What are streams?', stream: true as const };
    const events = await openaiAt(url).responses.create(request, { signal });
    return stream.pipe(events, openaiResponses());
  },
};

// ── @anthropic-ai/sdk ─────────────────────────────────────────────────────────────────────────────────────

const anthropicAt = (baseURL: string) => new Anthropic({ apiKey: 'none', baseURL, maxRetries: 0 });
const question = { model, messages, max_tokens: 100 };

const claude: Client = {
  dialect: anthropic,
  answer: messagesEvents,
  failure: messagesFailure,
  failureMessage: /Overloaded/,
  takesText: true,
  async *texts(url) {
    for await (const event of await anthropicAt(url).messages.create({ ...question, stream: true })) {
      if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') yield event.delta.text;
    }
  },
  whole: (url) => anthropicAt(url).messages.stream(question).finalText(),
  async relay(url, stream) {
    const { signal } = stream;
    const events = await anthropicAt(url).messages.create({ ...question, stream: true }, { signal });
    return stream.pipe(events, anthropic());
  },
};

// ── ai ────────────────────────────────────────────────────────────────────────────────────────────────────

/** What `useChat` of each framework is made of. */
class Chat extends AbstractChat<UIMessage> {
  constructor(api: string) {
    const state: ChatState<UIMessage> = {
      status: 'ready',
      error: undefined,
      messages: [],
      pushMessage: (message) => void state.messages.push(message),
      popMessage: () => void state.messages.pop(),
      replaceMessage: (index, message) => {
        state.messages[index] = message;
      },
      snapshot: (thing) => thing,
    };
    super({ state, transport: new DefaultChatTransport({ api }), onError: () => {} });
  }
}

const textOf = ({ parts }: UIMessage): string =>
  parts.map((part) => (part.type === 'text' ? part.text : '')).join('');

function chunksFrom(api: string, abortSignal?: AbortSignal) {
  return new DefaultChatTransport({ api }).sendMessages({
    trigger: 'submit-message',
    chatId: 'one',
    messageId: undefined,
    messages: [],
    abortSignal,
  });
}

const ui: Client = {
  dialect: aiSdk,
  answer: uiChunks,
  failure: uiFailure,
  failureMessage: /The server had an error\./,
  takesText: true,
  async *texts(url) {
    const stream = await chunksFrom(url);
    let text = '';
    for await (const message of readUIMessageStream({ stream, terminateOnError: true })) {
      yield textOf(message).slice(text.length);
      text = textOf(message);
    }
  },
  async whole(url) {
    const asking = new Chat(url);
    await asking.sendMessage({ text: 'What are streams?' });
    if (asking.status !== 'ready') throw asking.error;
    return textOf(asking.messages.at(-1)!);
  },
  async relay(url, stream) {
    return stream.pipe(await chunksFrom(url, stream.signal), aiSdk());
  },
};

export const clients: Readonly<Record<string, Client>> = {
  'openai, chat completions': chat,
  'openai, responses': responses,
  '@anthropic-ai/sdk': claude,
  'ai, the chat transport': ui,
};
