// What must hold in every framework: one suite for all hosts.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Reader } from '../../helpers/reader.ts';
import { type Answer, type Client, http1 } from './clients.ts';
import type { Host } from './host.ts';

/** The origin that every recipe lets in. */
export const ORIGIN = 'https://app.example';

/** What browsers send, so that a framework compresses what it compresses. */
export const BROWSER: Readonly<Record<string, string>> = {
  origin: ORIGIN,
  accept: 'text/event-stream',
  'accept-encoding': 'gzip, deflate, br',
};

/** Less than the 15 s after which a heartbeat would find that a client has left. */
const TIMEOUT = 10_000;

const MIB = 1024 * 1024;

export interface HostSuite {
  /** What reads from the host; default a client of HTTP/1.1. */
  readonly client?: Client;
  /** Further tests of this host, which run before it is stopped. */
  readonly more?: (running: () => Host) => void;
}

/** Describes how a framework serves a hub. `start` runs the code of the recipe. */
export function describeHost(
  name: string,
  start: () => Promise<Host>,
  { client = http1, more }: HostSuite = {},
): void {
  describe(name, { timeout: 60_000 }, () => {
    let host: Host;
    before(async () => {
      host = await start();
    });
    after(() => host?.close());

    const open = (topic: string, headers: Readonly<Record<string, string>> = {}): Promise<Answer> =>
      client(`${host.url}?topic=${topic}`, { ...BROWSER, ...headers });

    /** A client that has got the first bytes of its stream. */
    async function reading(topic: string, headers?: Readonly<Record<string, string>>): Promise<Reading> {
      const answer = await open(topic, headers);
      const reader = answer.read();
      await reader.until(({ frames }) => frames.length > 0);
      return { answer, reader };
    }

    /** Waits until so many streams are open. */
    async function streams(count: number): Promise<void> {
      while ((await host.hub.streams()).length !== count) await sleep(10);
    }

    it('keeps the headers that the framework has set, and is neither cached nor compressed', async () => {
      const { status, headers, leave } = await open('headers');
      assert.equal(status, 200);
      assert.equal(headers['access-control-allow-origin'], ORIGIN);
      assert.match(String(headers['content-type']), /^text\/event-stream\b/);
      assert.match(String(headers['cache-control']), /\bno-store, no-transform\b/);
      assert.equal(headers['content-encoding'], undefined);
      leave();
    });

    it('delivers the first event at once, and each that follows', { timeout: TIMEOUT }, async () => {
      const { answer, reader } = await reading('first');
      for (const text of ['1', '2', '3']) {
        await host.hub.publish('first', text);
        await reader.until(({ data }) => data.at(-1) === text);
      }
      answer.leave();
    });

    it('sees that a client has left, before a heartbeat would', { timeout: TIMEOUT }, async () => {
      await streams(0);
      const { answer } = await reading('leaving');
      await streams(1);
      answer.leave();
      await streams(0);
      await host.hub.publish('leaving', 'to nobody');
    });

    it('gives a client that returns exactly what it has missed', { timeout: TIMEOUT }, async () => {
      const first = await reading('resume');
      await host.hub.publish('resume', '1', '2');
      await first.reader.until(({ data }) => data.length === 2);
      first.answer.leave();
      await host.hub.publish('resume', '3', '4');
      const second = await reading('resume', { 'last-event-id': first.reader.lastEventId });
      await second.reader.until(({ data }) => data.length === 2);
      await host.hub.publish('resume', '5');
      await second.reader.until(({ data }) => data.length === 3);
      assert.deepEqual(second.reader.data, ['3', '4', '5']);
      assert.equal(second.reader.text.includes('sluice:gap'), false);
      second.answer.leave();
    });

    it('holds little for a client that does not read', { timeout: 3 * TIMEOUT }, async () => {
      await streams(0);
      const stalled = await open('stalled');
      await streams(1);
      await host.hub.fill('stalled', 48, MIB);
      const [stream] = await host.hub.streams();
      // What it was given waits in the two kernels, or in this process if something there buffers without limit.
      assert.ok(stream!.bytesWritten < 20 * MIB, `${stream!.bytesWritten} bytes were written`);
      assert.ok(stream!.writableLength < 3 * MIB, `${stream!.writableLength} bytes wait`);
      // A client that reads is served meanwhile.
      const { answer, reader } = await reading('other');
      await host.hub.publish('other', 'meanwhile');
      await reader.until(({ data }) => data.length === 1);
      answer.leave();
      stalled.leave();
      await streams(0);
    });

    it('answers a request that it refuses with a status, JSON and the headers of the framework', async () => {
      for (const query of ['?topic=a%20b', '']) {
        const { status, headers, read, leave } = await client(`${host.url}${query}`, BROWSER);
        assert.equal(status, 400);
        assert.equal(headers['access-control-allow-origin'], ORIGIN);
        assert.match(String(headers['content-type']), /^application\/json\b/);
        assert.match(JSON.parse(await read().over).error, /^(malformed-topic|topic-missing)$/);
        leave();
      }
    });

    it('ends the response of a topic that ends, after which 204 stops a browser', {
      timeout: TIMEOUT,
    }, async () => {
      const { answer, reader } = await reading('ending');
      await host.hub.publish('ending', 'last');
      await host.hub.end('ending');
      await reader.over;
      assert.deepEqual([reader.data, reader.frames.at(-1)?.event], [['last'], 'sluice:end']);
      assert.equal(answer.isWhole(), true);
      const again = await open('ending', { 'last-event-id': reader.lastEventId });
      assert.equal(again.status, 204);
      assert.equal(again.headers['access-control-allow-origin'], ORIGIN);
      again.leave();
    });

    more?.(() => host);

    it('ends its streams when it is stopped, with a time to return after', {
      timeout: 2 * TIMEOUT,
    }, async () => {
      const open = await Promise.all([reading('stopping'), reading('stopping')]);
      const stopped = host.stop();
      for (const { answer, reader } of open) {
        await reader.over;
        // The first time to return after came with the head of the stream.
        assert.equal(reader.retries.length, 2);
        assert.equal(answer.isWhole(), true);
      }
      assert.deepEqual(await stopped, { code: 0, signal: null });
    });

    it('has logged no error and no warning', () => {
      assert.deepEqual(
        host.lines.filter((line) => UNWANTED.test(line)),
        [],
      );
    });
  });
}

interface Reading {
  readonly answer: Answer;
  readonly reader: Reader;
}

/** An error or a warning, also in the lines of pino, whose levels 40 to 60 are warnings and errors. */
export const UNWANTED: RegExp = /error|exception|warn|premature|\bERR_|^ {4}at |"level":[456]0/i;
