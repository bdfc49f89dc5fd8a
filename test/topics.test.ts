import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { describe, it, type TestContext } from 'node:test';
import { Hub, type HubOptions, type TopicsOptions } from '../lib/hub.ts';
import { createSseServer, type SseServerOptions } from '../lib/server.ts';
import { dial, request } from './helpers/raw.ts';

interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: the tests say what is in it
  readonly json: any;
}

type Ask = (path: string, init?: RequestInit) => Promise<Answer>;

async function serving(t: TestContext, options: SseServerOptions): Promise<{ hub: Hub; ask: Ask }> {
  const sse = createSseServer(options);
  const url = await sse.listen(0);
  t.after(() => sse.close({ deadline: 0 }));
  const ask: Ask = async (path, init) => {
    const response = await fetch(url + path, init);
    return { status: response.status, json: await response.json() };
  };
  return { hub: sse.hub, ask };
}

const TEXT_LINES = 'application/x-ndjson';
const EVENT_LINES = 'application/vnd.sluice+ndjson';

function body(text: string, type = 'text/plain', headers: Record<string, string> = {}): RequestInit {
  return { method: 'POST', body: text, headers: { 'Content-Type': type, ...headers } };
}

/** A cookie names the sender, as behind a login page. */
const byCookie: SseServerOptions = {
  access: {
    authorize: ({ headers }: IncomingMessage) => headers.cookie && { user: headers.cookie },
    may: () => true,
  } as NonNullable<SseServerOptions['access']>,
};

describe('a batch', () => {
  it('with a bad event is refused as a whole, and the error names its line', async (t) => {
    const { hub, ask } = await serving(t, { hub: { maxEventBytes: 200 } });
    const position = hub.position;
    const events: [line: string, status: number, error: string, message: RegExp][] = [
      [
        '{"data":"x","event":"sluice:end"}',
        400,
        'bad-event',
        /^Line 4: `event` must not begin with "sluice:"/,
      ],
      ['{"data":"x","event":"a\\nb"}', 400, 'bad-event', /^Line 4: `event`/],
      ['nonsense', 400, 'bad-event', /^Line 4: a line must be a JSON string or an object/],
      [`"${'x'.repeat(300)}"`, 413, 'event-too-large', /^Line 4: an event .* at most 200 bytes/],
    ];
    for (const [line, status, error, message] of events) {
      const answer = await ask('/topics/a', body(`"1"\r\n\n"2"\n${line}\n"3"`, EVENT_LINES));
      assert.deepEqual([answer.status, answer.json.error], [status, error]);
      assert.match(answer.json.message, message);
    }
    assert.deepEqual([hub.position, hub.topics()], [position, []]);
  });

  it('larger than half of the history is refused before its lines are read, with the limits for a sender', async (t) => {
    const { hub, ask } = await serving(t, { hub: { history: { maxEvents: 20, maxBytes: 10_000 } } });
    const parse = t.mock.method(JSON, 'parse');
    const { status, json } = await ask('/topics/a', body('{"data":1}\n'.repeat(11), EVENT_LINES));
    const read = parse.mock.calls.filter(({ arguments: [text] }) => text === '{"data":1}');
    assert.equal(read.length, 0);
    const { message, ...rest } = json;
    assert.deepEqual([status, rest], [413, { error: 'batch-too-large', maxEvents: 10, maxBytes: 5000 }]);
    assert.match(message, /at most 10 events/);
    assert.deepEqual(hub.topics(), []);
    assert.equal((await ask('/topics/a', body('{"data":1}\n'.repeat(10), EVENT_LINES))).json.ids.length, 10);
  });

  it('of blank lines publishes nothing, however many they are', async (t) => {
    const { hub, ask } = await serving(t, {});
    const appendAll = t.mock.method(hub, 'appendAll');
    for (const text of ['\n'.repeat(1024 * 1024), '\r\n\r\r\n', '']) {
      assert.deepEqual(await ask('/topics/a', body(text, TEXT_LINES)), { status: 200, json: { ids: [] } });
    }
    assert.deepEqual(
      appendAll.mock.calls.map(({ arguments: [, events] }) => events.length),
      [0, 0, 0],
    );
    assert.deepEqual(hub.topics(), []);
  });

  it('counts each line that has anything, whatever ends it', async (t) => {
    const { hub, ask } = await serving(t, {});
    const text = 'a\r\n\nb\n\r\nc\r\r\n d\n\u2028\ne';
    const { json } = await ask('/topics/a', body(text, TEXT_LINES));
    assert.equal(json.ids.length, 6);
    assert.deepEqual([json.ids.at(-1), hub.topics()[0]!.events], [hub.position, 6]);
  });
});

describe('an Idempotency-Key', () => {
  const key = { 'Idempotency-Key': 'attempt-1' };

  it('gives a repeated batch the ids of the first, and publishes it once', async (t) => {
    const { hub, ask } = await serving(t, {});
    const batch = body('1\n2\n3', TEXT_LINES, key);
    const answers = await Promise.all([ask('/topics/a', batch), ask('/topics/a', batch)]);
    hub.publish('a', { data: 'between' });
    answers.push(await ask('/topics/a', batch));
    for (const answer of answers) assert.deepEqual(answer, answers[0]);
    assert.equal(new Set(answers[0]!.json.ids).size, 3);
    assert.equal(hub.topics()[0]!.events, 4);
  });

  it('never gives a sender the outcome of another one, also where a cookie tells them apart', async (t) => {
    const { hub, ask } = await serving(t, byCookie);
    const send = (cookie: string) => ask('/topics/a', body('x', 'text/plain', { ...key, cookie }));
    const [ann, bob] = [await send('ann'), await send('bob')];
    assert.deepEqual([ann.status, bob.status], [200, 200]);
    assert.notEqual(ann.json.id, bob.json.id);
    assert.deepEqual(await send('ann'), ann);
    assert.equal(hub.topics()[0]!.events, 2);
  });

  it('of another request is answered 422, and publishes nothing', async (t) => {
    const { hub, ask } = await serving(t, {});
    assert.equal((await ask('/topics/a?event=tick', body('x', 'text/plain', key))).status, 200);
    for (const [path, init] of [
      ['/topics/a?event=tick', body('y', 'text/plain', key)],
      ['/topics/a?event=tock', body('x', 'text/plain', key)],
      ['/topics/a?event=tick', body('x', TEXT_LINES, key)],
    ] as const) {
      const { status, json } = await ask(path, init);
      assert.deepEqual([status, json.error], [422, 'idempotency-conflict']);
    }
    assert.equal(hub.topics()[0]!.events, 1);
  });

  it('is free again after a failure, and must not be empty or too long', async (t) => {
    const { hub, ask } = await serving(t, {});
    hub.publish('a', { data: 'x' });
    hub.end('a');
    assert.equal((await ask('/topics/a', body('x', 'text/plain', key))).json.error, 'topic-ended');
    hub.reopen('a');
    assert.equal((await ask('/topics/a', body('x', 'text/plain', key))).status, 200);
    for (const wrong of ['', 'x'.repeat(201)]) {
      const answer = await ask('/topics/a', body('x', 'text/plain', { 'Idempotency-Key': wrong }));
      assert.deepEqual([answer.status, answer.json.error], [400, 'malformed-key']);
    }
  });
});

describe('the list of topics', () => {
  /** A hub that counts what its listings contain. */
  class CountingHub extends Hub {
    readonly pages: number[] = [];
    override topics(options?: TopicsOptions) {
      const page = super.topics(options);
      this.pages.push(page.length);
      return page;
    }
  }

  function filled(count: number, options?: HubOptions): CountingHub {
    const hub = new CountingHub(options);
    for (let i = 0; i < count; i++) hub.publish(`t${String(i).padStart(6, '0')}`, { data: 'x' });
    return hub;
  }

  it('comes in pages by name, each of which costs its own length', async (t) => {
    const hub = filled(2500);
    const { ask } = await serving(t, { hub });
    const sizes: number[] = [];
    const names: string[] = [];
    for (let path = '/topics'; path !== ''; ) {
      const { json } = await ask(path);
      assert.equal(json.position, hub.position);
      sizes.push(json.topics.length);
      names.push(...json.topics.map(({ topic }: { topic: string }) => topic));
      path = json.next === undefined ? '' : `/topics?after=${json.next}`;
    }
    assert.deepEqual(sizes, [1000, 1000, 500]);
    assert.deepEqual([names.length, names], [2500, [...new Set(names)].sort()]);
    assert.deepEqual(hub.pages, [1001, 1001, 500]);
  });

  it('takes a limit and a name that need not exist', async (t) => {
    const { ask } = await serving(t, { hub: filled(5) });
    const { json } = await ask('/topics?limit=2&after=t0000010');
    assert.deepEqual(
      json.topics.map(({ topic }: { topic: string }) => topic),
      ['t000002', 't000003'],
    );
    assert.equal(json.next, 't000003');
    assert.equal((await ask('/topics?limit=2&after=t000002')).json.next, undefined);
    for (const limit of ['0', '1001', '-1', '1.5', 'all', '']) {
      const answer = await ask(`/topics?limit=${limit}`);
      assert.deepEqual([answer.status, answer.json.error], [400, 'malformed-query']);
    }
  });

  it('names no topic that the sender may not read, and looks for others one page a turn', async (t) => {
    const hub = filled(100);
    for (const name of ['u1', 'u2', 'u3']) hub.publish(name, { data: 'x' });
    for (let i = 0; i < 100; i++) hub.publish(`v${i}`, { data: 'x' });
    const access = {
      authorize: () => 'u',
      may: (name: string, _: string, topic: string) => topic.startsWith(name),
    };
    const { ask } = await serving(t, { hub, access: access as NonNullable<SseServerOptions['access']> });
    const first = await ask('/topics?limit=2');
    assert.deepEqual([first.json.topics.length, first.json.next], [2, 'u2']);
    assert.ok(hub.pages.every((size) => size <= 3));
    const second = await ask('/topics?limit=2&after=u2');
    assert.deepEqual([second.json.topics.length, second.json.next], [1, undefined]);
  });

  it('looks for no more topics once the sender has gone', async (t) => {
    const hub = filled(5000);
    let asked = 0;
    let leave = (): void => {};
    const may = () => {
      if (++asked === 10) leave();
      return false;
    };
    const access = { authorize: () => 'u', may };
    const sse = createSseServer({ hub, access: access as NonNullable<SseServerOptions['access']> });
    const url = new URL('/topics?limit=1', await sse.listen(0));
    t.after(() => sse.close({ deadline: 0 }));
    const closed = new Promise((resolve) => {
      sse.server.on('request', (_, res) => res.on('close', resolve));
    });
    const socket = await dial(t, Number(url.port));
    leave = () => socket.destroy();
    socket.write(request(`GET ${url.pathname}${url.search} HTTP/1.1`));
    await closed;
    const pages = hub.pages.length;
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
    assert.ok(hub.pages.length - pages <= 1, `${hub.pages.length - pages} pages more`);
    assert.ok(pages < 2500, `${pages} pages`);
  });
});
