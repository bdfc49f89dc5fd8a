// Thousands of readers of the cluster's numbers in one process: as examples/cluster/readers.ts, and as little work as
// possible for each event. Prints the same counts.

import http, { type IncomingMessage } from 'node:http';
import type { Counts } from '../../../examples/cluster/readers.ts';
import { Sequence } from '../../../examples/cluster/sequence.ts';

const [url = '', count = '0'] = process.argv.slice(2);
const counts: Counts = {
  ...{ at: 0, open: 0, events: 0, reconnects: 0, gaps: 0, holes: 0, duplicates: 0 },
  ...{ least: 0, most: 0, servers: {} },
};

const NUMBER = /^id: (\S+)\ndata: (\d+)$/;

class LightReader {
  readonly sequence: Sequence = new Sequence(counts);
  #lastEventId = '';
  #retry = 1000;
  #streams = 0;

  open(): void {
    const headers = this.#lastEventId === '' ? {} : { 'Last-Event-ID': this.#lastEventId };
    const request = http.get(`${url}/events?topic=numbers`, { agent: false, headers });
    request.once('response', (response) => this.#read(response));
    request.once('error', () => {});
    request.once('close', () => setTimeout(() => this.open(), this.#retry * (1 + Math.random() / 4)));
  }

  #read(response: IncomingMessage): void {
    if (response.statusCode !== 200) return void response.destroy();
    const server = String(response.headers['x-server']);
    change(server, 1);
    if (this.#streams++ > 0) counts.reconnects++;
    let rest = '';
    response.setEncoding('latin1').on('data', (text: string) => {
      rest = this.#take(rest + text);
    });
    response.once('error', () => {}).once('close', () => change(server, -1));
  }

  /** Returns what is not a whole block yet. */
  #take(text: string): string {
    let from = 0;
    for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n', from)) {
      this.#block(text.slice(from, end));
      from = end + 2;
    }
    return text.slice(from);
  }

  #block(block: string): void {
    const [, id, number] = NUMBER.exec(block) ?? [];
    if (id === undefined) return this.#control(block);
    this.#lastEventId = id;
    counts.events++;
    this.sequence.add(Number(number));
  }

  #control(block: string): void {
    for (const line of block.split('\n')) {
      if (line.startsWith('id: ')) this.#lastEventId = line.slice(4);
      else if (line.startsWith('retry: ')) this.#retry = Number(line.slice(7));
      else if (line === 'event: sluice:gap') {
        counts.gaps++;
        this.sequence.gap();
        process.stderr.write(`${block.replaceAll('\n', ' ')}\n`);
      }
    }
  }
}

function change(server: string, streams: 1 | -1): void {
  counts.open += streams;
  counts.servers[server] = (counts.servers[server] ?? 0) + streams;
}

const readers = Array.from({ length: Number(count) }, () => new LightReader());
for (const reader of readers) reader.open();
setInterval(() => {
  counts.at = Date.now();
  counts.least = readers.reduce((least, { sequence }) => Math.min(least, sequence.last ?? 0), Infinity);
  counts.most = readers.reduce((most, { sequence }) => Math.max(most, sequence.last ?? 0), 0);
  process.stdout.write(`${JSON.stringify(counts)}\n`);
}, 1000);
