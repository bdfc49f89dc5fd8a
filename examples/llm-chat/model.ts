// A model for those who have none: it speaks the dialect of OpenAI's Chat Completions, and gives the same answer to the
// same question.
// Needs `openai-chat.ts`, `body.ts` and what sluice needs for a stream.

import { createServer, type Server } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { readText } from '../../lib/body.ts';
import { openStream } from '../../lib/index.ts';
import { openaiChat } from '../../lib/openai-chat.ts';

export interface Message {
  readonly role: 'user' | 'assistant';
  readonly content: string;
}

const MAX_COUNT = 10_000;
const MAX_BODY_BYTES = 1024 * 1024;

/** Asked to "count to 500", it counts. Asked anything else, it repeats the question. */
function answerTo(messages: readonly Message[]): string[] {
  const question = messages.at(-1)?.content ?? '';
  const count = Math.min(MAX_COUNT, Number(/\bcount to (\d+)/i.exec(question)?.[1] ?? 0));
  if (count > 0) return Array.from({ length: count }, (_, i) => `${i + 1} `);
  const asked = messages.filter(({ role }) => role === 'user').length;
  const text =
    `I am a small program and no model. This is question ${asked} of this chat, and you have asked: ` +
    `“${question}”. Ask me to count to 500, reload the page in the middle, open it twice, or stop me.`;
  return text.split(/(?<= )/);
}

/** Listens on a free port of the loopback. `delay` is the time in milliseconds that it takes for a word. */
export async function startModel(delay: number): Promise<{ readonly url: string; readonly server: Server }> {
  const server = createServer(async (req, res) => {
    const stream = openStream(req, res);
    try {
      const { messages } = JSON.parse(await readText(req, MAX_BODY_BYTES));
      await stream.pipe(words(answerTo(messages), delay, stream.signal), openaiChat({ model: 'small' }));
    } catch {
      stream.refuse(400);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return { url: `http://127.0.0.1:${port}/v1`, server };
}

async function* words(all: readonly string[], delay: number, signal: AbortSignal): AsyncGenerator<string> {
  for (const word of all) {
    yield word;
    await sleep(delay, undefined, { signal });
  }
}
