// Streams to each of many clients an answer of its own, token by token; no event is shared.

import { usageOf } from '../loads/lead.ts';
import { complaint, costOf, limitOf, usedBetween } from './measure.ts';
import { atMost, OURS, repeat, type Scenario } from './scenario.ts';
import { emptyStage } from './stage.ts';

/** The length of an answer in loads/host.ts. */
const TOKENS = 500;

/** In which form tokens are sent, and the path of peers/answers.ts. The last four send the same JSON. */
const forms = {
  text: '/answer',
  'JSON, made before': '/answer/json',
  'JSON, of events': '/answer/events',
  'openaiChat, of chunks': '/answer/chunks',
  'openaiChat, of text': '/answer/text',
} as const;

type Form = keyof typeof forms;

function formsOf(peer: string): readonly Form[] {
  if (peer === OURS) return Object.keys(forms) as Form[];
  return peer === 'raw' ? ['text', 'JSON, of events'] : ['text'];
}

export const llm: Scenario = {
  name: 'llm',
  constant:
    '200 clients that post repeatedly, each time on a new connection; answers of 500 short tokens, each an event',
  shows:
    'CPU time of the server per token, opening and ending the answers included; ours also in the dialect of an API, beside the same JSON without it',
  peers: ['sluice', 'raw', 'hono', 'h3', 'fastify', 'better-sse'],
  async run(settings, note) {
    const { connections: [clients = 200] = [], isQuick } = settings;
    const rounds = isQuick ? 1 : 4;
    const measure = async (peer: string, form: Form, repetition: number): Promise<void> => {
      const { server, reader, stop } = await emptyStage(peer, 'node');
      try {
        const order = { do: 'post', port: server.port, path: forms[form], count: clients, bytes: 0 } as const;
        if (!isQuick) await reader.ask({ ...order, rounds: 1 });
        await reader.ask({ do: 'reset' });
        const before = usageOf(server.pids());
        const answer = await reader.ask({ ...order, rounds });
        const used = usedBetween(before, usageOf(server.pids()));
        const cost = costOf(used, answer.events);
        const deliveriesPerSecond = answer.events / (answer.elapsed / 1e6);
        const invalid = complaint(answer, clients * rounds * TOKENS) ?? limitOf(used, answer.elapsed);
        const figures = invalid === undefined ? { ...cost, deliveriesPerSecond } : {};
        note({ scenario: 'llm', peer, parameters: { clients, form }, repetition, figures, invalid });
      } finally {
        await stop();
      }
    };
    await repeat(atMost(3, settings), async (peer, repetition) => {
      for (const form of formsOf(peer)) await measure(peer, form, repetition);
    });
  },
};
