// A compressed stream, read by those who will: Chromium's EventSource, curl and fetch. Each event as it is
// published. Needs Chromium and curl: apt-get install chromium curl.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { createSseServer, type SseServer } from '../../lib/server.ts';
import { kept } from './helpers/children.ts';
import { launchChromium } from './helpers/chromium.ts';

/** Long enough for zlib to hold back, if it could. */
const texts = ['short', 'again and '.repeat(500), '{"price":1.0871}', 'Ünïcödé 事件'];

describe('a compressed stream', () => {
  let sse: SseServer;
  let url: string;
  before(async () => {
    sse = createSseServer({ stream: { gzip: true }, heartbeat: { interval: 200 } });
    url = await sse.listen(0);
  });
  after(() => sse.close({ deadline: 0 }));

  /** Publishes each text only once the reader has the one before: what is held back is never followed. */
  async function publishOneByOne(topic: string, has: (text: string) => Promise<unknown>): Promise<void> {
    while (sse.hub.topics().find((one) => one.topic === topic)?.subscribers !== 1) await nextLook();
    for (const data of texts) {
      sse.hub.publish(topic, { data });
      await has(data);
    }
    assert.deepEqual(
      [...sse.streams].map(({ isCompressed }) => isCompressed),
      [true],
    );
    sse.hub.end(topic);
    while (sse.streams.size > 0) await nextLook();
  }

  it('reaches the EventSource of Chromium event by event', async () => {
    const browser = await launchChromium();
    try {
      const page = await browser.newPage();
      await page.goto(`${url}/healthz`);
      await page.evaluate(() => {
        const heard: string[] = [];
        const source = new EventSource('/events?topic=chromium');
        source.onmessage = ({ data }) => heard.push(data);
        source.addEventListener('sluice:end', () => source.close());
        Object.assign(globalThis, { heard });
      });
      await publishOneByOne('chromium', (text) =>
        page.waitForFunction(
          (data) => (globalThis as unknown as { heard: string[] }).heard.at(-1) === data,
          text,
        ),
      );
    } finally {
      await browser.close();
    }
  });

  it('reaches curl event by event, and ends as gzip does', async () => {
    const curl = kept(spawn('curl', ['-sSN', '--compressed', `${url}/events?topic=curl`]));
    let text = '';
    curl.stdout.setEncoding('utf8').on('data', (piece: string) => {
      text += piece;
    });
    const exit = once(curl, 'close');
    await publishOneByOne('curl', async (data) => {
      while (!text.includes(`data: ${data}\n\n`)) await once(curl.stdout, 'data');
    });
    // It complains of a body that is cut or has a wrong checksum.
    assert.deepEqual(await exit, [0, null]);
    assert.match(text, /event: sluice:end\n/);
  });

  it('reaches fetch event by event, and ends as gzip does', async () => {
    const response = await fetch(`${url}/events?topic=fetch`);
    assert.equal(response.headers.get('content-encoding'), 'gzip');
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    await publishOneByOne('fetch', async (data) => {
      while (!text.includes(`data: ${data}\n\n`)) text += (await reader.read()).value;
    });
    for (let read = await reader.read(); !read.done; read = await reader.read()) text += read.value;
    assert.match(text, /event: sluice:end\n/);
  });
});

const nextLook = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 10));
