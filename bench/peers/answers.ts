// Answers with the tokens of a language model in several forms, so that the cost of a dialect is seen beside
// that of the bytes and of the JSON.

import { openaiChat } from '../../lib/openai-chat.ts';
import type { EventStream } from '../../lib/stream.ts';
import type { PeerOptions } from './peer.ts';

const MODEL = 'gpt-5-mini-2025-08-07';

export interface Chunk {
  readonly choices: readonly {
    readonly index: number;
    readonly delta: object;
    readonly finish_reason: string | null;
  }[];
}

/** As OpenAI's API makes them. One literal: on Node 20 a spread would cost more than the JSON. */
export function chunkOf(content: string): Chunk {
  const chunk = {
    id: 'chatcmpl-CqVYBGMbZQl9fRoyP6ktsrWKgGbQa',
    object: 'chat.completion.chunk',
    created: 1_764_460_800,
    model: MODEL,
    service_tier: 'default',
    system_fingerprint: null,
    choices: [{ index: 0, delta: { content }, finish_reason: null }],
    usage: null,
    obfuscation: 'r8Zk2',
  };
  return chunk;
}

export const LAST: Chunk = { choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] };

const [beforeText = '', afterText = ''] = JSON.stringify(chunkOf('')).split('"content":""');
const jsonOf = (text: string): string => `${beforeText}"content":"${text}"${afterText}`;
const eventOf = (json: unknown): { json: unknown } => ({ json });

type Answer = (stream: EventStream, options: PeerOptions) => Promise<unknown>;

/** By the path of the request. */
export const answers: Readonly<Record<string, Answer>> = {
  '/answer': (stream, { tokens }) => stream.pipe(tokens()),
  '/answer/json': (stream, { answer }) => stream.pipe(answer(jsonOf, '[DONE]')),
  '/answer/events': (stream, { answer }) =>
    stream.pipe(
      answer((text) => eventOf(chunkOf(text)), eventOf(LAST)),
      { end: { data: '[DONE]' } },
    ),
  '/answer/chunks': (stream, { answer }) => stream.pipe(answer(chunkOf, LAST), openaiChat()),
  '/answer/text': (stream, { tokens }) => stream.pipe(tokens(), openaiChat({ model: MODEL })),
};
