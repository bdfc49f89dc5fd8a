// Loaded into the program of a recipe: lets the test publish to its hub and look at its streams.
// Imports nothing but `node:`, so that the bundler of a framework can take it.

import { connect } from 'node:net';
import { createInterface } from 'node:readline';

/** What the suite asks of a host, and what the host answers. */
export interface Commands {
  publish: { ask: { topic: string; texts: readonly string[] }; answer: string[] };
  /** Publishes `count` events of so many bytes, one in each turn. */
  fill: { ask: { topic: string; count: number; bytes: number }; answer: null };
  end: { ask: { topic: string }; answer: boolean };
  streams: { ask: Record<string, never>; answer: StreamState[] };
}

export interface StreamState {
  readonly bytesWritten: number;
  readonly writableLength: number;
}

interface Exposed {
  readonly hub: {
    publish(topic: string, event: { readonly data: string }): string;
    end(topic: string): boolean;
  };
  readonly streams: Iterable<StreamState>;
}

type Command = { [Name in keyof Commands]: { do: Name } & Commands[Name]['ask'] }[keyof Commands];

/** Connects to the test that has started this process, and obeys it. */
export function expose({ hub, streams }: Exposed): void {
  const socket = connect(Number(process.env.SUITE_PORT), '127.0.0.1');
  // The test may have ended, and the process must end by itself at its shutdown.
  socket.on('error', () => {}).unref();
  createInterface(socket).on('line', async (line) => {
    const { id, ...command } = JSON.parse(line) as { id: number } & Command;
    socket.write(`${JSON.stringify({ id, answer: await obey(command) })}\n`);
  });

  async function obey(command: Command): Promise<unknown> {
    switch (command.do) {
      case 'publish':
        return command.texts.map((data) => hub.publish(command.topic, { data }));
      case 'fill':
        for (let n = 0; n < command.count; n++) {
          hub.publish(command.topic, { data: 'x'.repeat(command.bytes) });
          await new Promise((resolve) => setImmediate(resolve));
        }
        return null;
      case 'end':
        return hub.end(command.topic);
      case 'streams':
        return Array.from(streams, ({ bytesWritten, writableLength }) => ({ bytesWritten, writableLength }));
    }
  }
}
