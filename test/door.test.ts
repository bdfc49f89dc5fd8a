import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import http from 'node:http';
import { after, before, describe, it } from 'node:test';
import type { RecentReport } from '../lib/recent.ts';
import { createSseServer, type LogLine, type SseServer, type SseServerOptions } from '../lib/server.ts';
import { fakeTime } from './helpers/clock.ts';
import { HandLog } from './helpers/hand-log.ts';
import { Reader } from './helpers/reader.ts';

function serve(options: SseServerOptions = {}): { url: string; sse: SseServer; lines: LogLine[] } {
  const lines: LogLine[] = [];
  const served = { url: '', lines, sse: createSseServer({ logger: (line) => lines.push(line), ...options }) };
  before(async () => {
    served.url = await served.sse.listen(0);
  });
  after(() => served.sse.close({ deadline: 0 }));
  return served;
}

/** `fetch` sets some headers itself: this sends what it is told. */
async function ask(url: string, headers: Record<string, string>, method = 'GET', body = ''): Promise<Answer> {
  const { host, hostname, port, pathname, search } = new URL(url);
  const length = method === 'POST' ? { 'Content-Length': String(body.length) } : {};
  const all = { Host: host, ...length, ...headers };
  const request = http.request({
    hostname,
    port,
    path: pathname + search,
    method,
    headers: all,
    agent: false,
  });
  request.end(body);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  if (
    response.headers['content-type'] === 'text/event-stream' &&
    response.headers['content-length'] === undefined
  ) {
    response.destroy();
    return { status: response.statusCode ?? 0, headers: response.headers, text: '', error: undefined };
  }
  let text = '';
  for await (const chunk of response) text += chunk;
  const isJson = response.headers['content-type'] === 'application/json';
  const error = isJson ? JSON.parse(text).error : undefined;
  return { status: response.statusCode ?? 0, headers: response.headers, text, error };
}

interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  readonly error: string | undefined;
}

const bearer = (token: string) => ({ Authorization: `Bearer ${token}` });

describe('the hosts and origins of the server', () => {
  const served = serve({ origins: ['https://app.example'], credentials: true });

  it('refuses a host that is not its own and a page of another site, before it opens a stream', async () => {
    const events = `${served.url}/events?topic=a`;
    for (const [headers, status, error] of [
      [{ Host: 'evil.example' }, 421, 'host-not-listed'],
      [{ Origin: 'https://evil.example' }, 403, 'origin-not-listed'],
      [{ Origin: 'null' }, 403, 'origin-not-listed'],
      [{ 'Sec-Fetch-Site': 'cross-site' }, 403, 'cross-site'],
    ] as const) {
      const answer = await ask(events, headers);
      assert.deepEqual([answer.status, answer.error], [status, error]);
    }
    assert.equal(served.sse.streams.size, 0);
    assert.equal(served.lines.filter(({ event }) => event === 'refused').length, 4);
  });

  it('serves its page to a link on another site', async () => {
    const link = {
      'Sec-Fetch-Site': 'cross-site',
      'Sec-Fetch-Mode': 'navigate',
      'Sec-Fetch-Dest': 'document',
    };
    assert.equal((await ask(`${served.url}/`, link)).status, 200);
    assert.equal((await ask(`${served.url}/events?topic=a`, link)).status, 403);
  });

  it('lets a listed origin read, and answers its preflight request', async () => {
    const origin = { Origin: 'https://app.example', 'Sec-Fetch-Site': 'cross-site' };
    const { status, headers } = await ask(`${served.url}/events?topic=a`, origin);
    assert.equal(status, 200);
    assert.equal(headers['access-control-allow-origin'], 'https://app.example');
    assert.equal(headers['access-control-allow-credentials'], 'true');
    const asking = { ...origin, 'Access-Control-Request-Method': 'DELETE' };
    const preflight = await ask(`${served.url}/topics/a`, asking, 'OPTIONS');
    assert.equal(preflight.status, 204);
    assert.match(preflight.headers['access-control-allow-methods'] ?? '', /DELETE/);
  });
});

describe('a page of a listed origin', () => {
  const limits = { maxConnections: 1 };
  const served = serve({ origins: ['https://app.example'], publishTokens: ['writer'], limits });
  const origin = { Origin: 'https://app.example', 'Sec-Fetch-Site': 'cross-site' };

  it('may send what our readers and publishers send', async () => {
    for (const [method, names] of [
      ['GET', 'authorization, cache-control, last-event-id'],
      ['POST', 'authorization, content-type, idempotency-key'],
      ['DELETE', 'authorization'],
    ] as const) {
      const asking = { 'Access-Control-Request-Method': method, 'Access-Control-Request-Headers': names };
      const { status, headers } = await ask(`${served.url}/topics/a`, { ...origin, ...asking }, 'OPTIONS');
      assert.equal(status, 204);
      assert.equal(headers['access-control-allow-origin'], origin.Origin);
      assert.ok(headers['access-control-allow-methods']?.split(', ').includes(method));
      const allowed = headers['access-control-allow-headers']?.toLowerCase().split(', ');
      for (const name of names.split(', ')) assert.ok(allowed?.includes(name), name);
    }
  });

  it('may read every refusal, and when to come back', async () => {
    const holder = await Reader.open(`${served.url}/events?topic=a`);
    for (const [method, path, headers, status] of [
      ['GET', '/nothing', {}, 404],
      ['PUT', '/topics/a', {}, 405],
      ['POST', '/topics/a', {}, 401],
      ['POST', '/topics/a', bearer('wrong'), 401],
      ['POST', '/topics/a%20b', bearer('writer'), 400],
      ['POST', '/topics/a', { ...bearer('writer'), 'Content-Type': 'multipart/form-data' }, 415],
      ['GET', '/events', {}, 400],
      ['GET', '/events?topic=a', { Accept: 'text/html' }, 406],
      ['GET', '/events?topic=a', {}, 503],
      ['GET', '/topics', { Host: 'evil.example' }, 421],
    ] as const) {
      const answer = await ask(served.url + path, { ...origin, ...headers }, method);
      assert.equal(answer.status, status, path);
      assert.equal(answer.headers['access-control-allow-origin'], origin.Origin, path);
      assert.match(answer.headers['access-control-expose-headers'] ?? '', /Retry-After/, path);
    }
    holder.close();
  });
});

describe('tokens', () => {
  const served = serve({ publishTokens: ['writer'], subscribeTokens: ['reader'] });

  it('let a publisher publish and read, a reader only read, and refuse a request without a token', async () => {
    const read = (headers: Record<string, string>) => ask(`${served.url}/events?topic=a`, headers);
    const write = (headers: Record<string, string>) => ask(`${served.url}/topics/a`, headers, 'POST', 'x');
    const outcomes = [];
    for (const headers of [{}, bearer('wrong'), bearer('reader'), bearer('writer')]) {
      outcomes.push([(await read(headers)).status, (await write(headers)).status]);
    }
    assert.deepEqual(outcomes, [
      [401, 401],
      [401, 401],
      [200, 403],
      [200, 200],
    ]);
  });

  it('that are missing or wrong are counted and logged, without the token that was sent', async () => {
    const { url, lines } = served;
    const refusals = async () => {
      const { text } = await ask(`${url}/metrics`, {});
      return ['unauthorized', 'forbidden'].map((reason) =>
        Number(new RegExp(`^sluice_refused_total{reason="${reason}"} (\\d+)$`, 'm').exec(text)?.[1]),
      );
    };
    const [unauthorized = 0, forbidden = 0] = await refusals();
    const logged = lines.length;
    await ask(`${url}/events?topic=a`, bearer('wrong'));
    await ask(`${url}/events?topic=a&ticket=made-up`, {});
    await ask(`${url}/topics/a`, bearer('reader'), 'POST', 'x');
    assert.deepEqual(await refusals(), [unauthorized + 2, forbidden + 1]);
    const refused = lines.slice(logged).filter(({ event }) => event === 'refused');
    const line = { level: 'warn', event: 'refused' };
    assert.deepEqual(refused, [
      { ...line, reason: 'unauthorized', status: 401 },
      { ...line, reason: 'unauthorized', status: 401 },
      { ...line, reason: 'forbidden', status: 403 },
    ]);
  });

  it('are required to list the topics and to read the position', async () => {
    for (const path of ['/topics', '/position']) {
      const statuses = [];
      for (const headers of [{}, bearer('wrong'), bearer('reader'), bearer('writer')]) {
        statuses.push((await ask(served.url + path, headers)).status);
      }
      assert.deepEqual(statuses, [401, 401, 200, 200], path);
    }
  });

  it('are exchanged for a ticket, which opens one stream and never appears in the log', async () => {
    assert.equal((await ask(`${served.url}/tickets`, bearer('wrong'), 'POST')).status, 401);
    assert.equal((await ask(`${served.url}/tickets`, {}, 'POST')).status, 401);
    const { status, text } = await ask(`${served.url}/tickets`, bearer('reader'), 'POST');
    assert.equal(status, 200);
    const { ticket } = JSON.parse(text);
    const reader = await Reader.open(`${served.url}/events?topic=a&ticket=${ticket}`);
    await reader.until(({ frames }) => frames.length === 1);
    reader.close();
    assert.equal((await ask(`${served.url}/events?topic=a&ticket=${ticket}`, {})).status, 401);
    assert.equal((await ask(`${served.url}/events?topic=a&ticket=made-up`, bearer('reader'))).status, 401);
    while (!served.lines.some(({ event }) => event === 'stream-closed')) await new Promise(setImmediate);
    const log = JSON.stringify(served.lines);
    for (const secret of [ticket, 'reader', 'writer']) assert.equal(log.includes(secret), false, secret);
  });
});

describe('access control by the application', () => {
  let now = true;
  const served = serve({
    access: {
      authorize: async ({ headers }: http.IncomingMessage) => {
        const name = headers['x-user'];
        return name === undefined
          ? undefined
          : { name, expiresAt: name === 'brief' ? Date.now() + 200 : Infinity };
      },
      may: (principal, _action, topic) => now && topic.startsWith((principal as { name: string }).name),
    },
  });

  it('decides for each topic', async () => {
    const read = async (user: Record<string, string>, topic: string) =>
      (await ask(`${served.url}/events?topic=${topic}`, user)).status;
    assert.equal(await read({}, 'ann.1'), 401);
    assert.equal(await read({ 'X-User': 'ann' }, 'ann.1'), 200);
    assert.equal(await read({ 'X-User': 'ann' }, 'bob.1'), 401);
  });

  it('lists only the topics that the principal may read', async () => {
    served.sse.hub.publish('ann.3', { data: 'x' });
    served.sse.hub.publish('bob.3', { data: 'x' });
    const { text } = await ask(`${served.url}/topics`, { 'X-User': 'ann' });
    assert.deepEqual(
      JSON.parse(text).topics.map(({ topic }: { topic: string }) => topic),
      ['ann.3'],
    );
  });

  it('refuses a permission that has expired or whose expiry is not a number', async () => {
    for (const expiresAt of [Date.now() - 1, Number.NaN]) {
      const sse = createSseServer({ access: { authorize: () => ({ expiresAt }), may: () => true } });
      const url = await sse.listen(0);
      const statuses = [
        (await ask(`${url}/events?topic=a`, {})).status,
        (await ask(`${url}/topics/a`, {}, 'POST', 'x')).status,
        (await ask(`${url}/tickets`, {}, 'POST')).status,
        (await ask(`${url}/position`, {})).status,
      ];
      assert.deepEqual(statuses, [401, 401, 401, 401]);
      await sse.close();
    }
  });

  it('may last for longer than a timer can', async () => {
    for (const expiresAt of [Date.now() + 2 ** 32, Infinity, undefined, null]) {
      const sse = createSseServer({ access: { authorize: () => ({ expiresAt }), may: () => true } });
      const url = await sse.listen(0);
      const reader = await Reader.open(`${url}/events?topic=a`);
      await reader.until(({ frames }) => frames.length === 1);
      reader.close();
      await sse.close();
    }
  });

  it('ends a stream when the permission expires, whatever the jitter of maxAge', async (t) => {
    // As late as jitter can make it: twice its age.
    t.mock.method(Math, 'random', () => 0.999);
    const closed: unknown[] = [];
    const log = ({ event, topics }: LogLine) => event === 'stream-closed' && closed.push(topics);
    const open = async (topic: string, options: SseServerOptions) => {
      const sse = createSseServer({ logger: log, ...options });
      t.after(() => sse.close());
      return Reader.open(`${await sse.listen(0)}/events?topic=${topic}`);
    };
    const access = { authorize: () => ({ expiresAt: Date.now() + 400 }), may: () => true };
    const readers = [
      await open('permission', { access, stream: { maxAge: 390, maxAgeJitter: 1 } }),
      await open('age', { stream: { maxAge: 600, maxAgeJitter: 0 } }),
    ];
    for (const reader of readers) await reader.over;
    assert.deepEqual(closed, [['permission'], ['age']]);
  });

  it('ends a stream when the permission expires', async () => {
    const reader = await Reader.open(`${served.url}/events?topic=brief.1`, {
      headers: { 'X-User': 'brief' },
    });
    await reader.over;
    assert.equal(reader.frames.length, 1);
  });

  it('is checked again before old and new events are sent', async () => {
    const reader = await Reader.open(`${served.url}/events?topic=ann.2`, { headers: { 'X-User': 'ann' } });
    await reader.until(({ frames }) => frames.length === 1);
    served.sse.hub.publish('ann.2', { data: 'allowed' });
    await reader.until(({ data }) => data.length === 1);
    now = false;
    served.sse.hub.publish('ann.2', { data: 'not allowed any more' });
    await reader.over;
    assert.deepEqual(reader.data, ['allowed']);
    now = true;
  });
});

describe('limits', () => {
  const served = serve({ limits: { maxConnections: 2, retryDelay: 3000 } });

  it('refuse a program with a status, and a browser with a stream after which it reconnects', async () => {
    const events = `${served.url}/events?topic=a`;
    const readers = [await Reader.open(events), await Reader.open(events)];
    const program = await ask(events, {});
    assert.equal(program.status, 503);
    assert.ok(Number(program.headers['retry-after']) >= 3);
    const browser = await Reader.open(events, {
      headers: { Accept: 'text/event-stream', 'Sec-Fetch-Mode': 'cors', 'Sec-Fetch-Site': 'same-origin' },
    });
    await browser.over;
    assert.equal(browser.status, 200);
    assert.ok((browser.retries[0] as number) >= 3000, browser.text);
    for (const reader of readers) reader.close();
    while (served.sse.streams.size > 0) await new Promise(setImmediate);
    const next = await Reader.open(events);
    assert.equal(next.status, 200);
    next.close();
  });

  it('release every slot, however a stream ends', async () => {
    const events = `${served.url}/events?topic=b`;
    for (let round = 0; round < 20; round++) {
      while (served.sse.streams.size > 0) await new Promise(setImmediate);
      const reader = await Reader.open(events);
      assert.equal(reader.status, 200, `in round ${round}`);
      await reader.until(({ frames }) => frames.length === 1);
      if (round % 3 === 0) reader.response.socket.resetAndDestroy();
      else if (round % 3 === 1) reader.response.socket.end();
      else for (const stream of served.sse.streams) stream.end();
      await ask(events, {}, 'HEAD');
      await reader.over;
    }
  });
});

describe('heartbeats', () => {
  const served = serve({ heartbeat: { interval: 40, missed: 3, jitter: 0 } });

  it('are announced, and carry the position of a stream that has everything', async () => {
    const reader = await Reader.open(`${served.url}/events?topic=quiet`);
    await reader.until(({ frames }) => frames.length === 1);
    assert.deepEqual(JSON.parse(reader.frame('sluice:ready').data).heartbeat, { interval: 40, missed: 3 });
    const id = served.sse.hub.publish('busy', { data: 'not for the quiet one' });
    await reader.until(({ text }) => text.includes(`:\nid: ${id}\nevent: sluice:position\n`));
    assert.deepEqual(reader.data, []);
    reader.close();
    const again = await Reader.open(`${served.url}/events?topic=quiet&lastEventId=${id}`);
    await again.until(({ frames }) => frames.length === 1);
    assert.equal(again.frame('sluice:ready').id, id);
    again.close();
  });

  it('follow a profile, or the interval that was learned', async () => {
    assert.throws(
      () => createSseServer({ heartbeat: { profile: 'moon' as 'lan' } }),
      /`profile` must be one of mobile, wifi, lan/,
    );
    for (const [heartbeat, announced, bounds] of [
      [{ profile: 'mobile' }, { interval: 30_000, missed: 3 }, 30],
      [{ adaptive: true }, { interval: 60_000, missed: 2 }, 15],
      [{ adaptive: true, profile: 'lan' }, { interval: 120_000, missed: 1 }, 120],
      [{ adaptive: true, interval: 2000 }, { interval: 60_000, missed: 2 }, 2],
      [{ adaptive: { maxInterval: 30_000 } }, { interval: 30_000, missed: 2 }, 15],
      [false, null, undefined],
    ] as const) {
      const sse = createSseServer({ heartbeat });
      const url = await sse.listen(0);
      const reader = await Reader.open(`${url}/events?topic=a`);
      await reader.until(({ frames }) => frames.length === 1);
      assert.deepEqual(JSON.parse(reader.frame('sluice:ready').data).heartbeat, announced);
      const { text } = await ask(`${url}/metrics`, {});
      const [, max] = /^sluice_heartbeat_interval_seconds{bound="max"} (.*)$/m.exec(text) ?? [];
      assert.equal(max === undefined ? undefined : Number(max), bounds);
      await sse.close({ deadline: 1000 });
    }
  });
});

describe('GET /metrics/recent', () => {
  it('says what was published and delivered, how many streams there were and what memory, every five seconds', async (t) => {
    const clock = fakeTime(t);
    const sse = createSseServer();
    t.after(() => sse.close({ deadline: 1000 }));
    const url = await sse.listen(0);
    const reader = await Reader.open(`${url}/events?topic=a`);
    for (let i = 0; i < 10; i++) sse.hub.publish('a', { data: 'x' });
    await reader.until(({ data }) => data.length === 10);
    clock.advance(5000);
    const { status, text } = await ask(`${url}/metrics/recent`, {});
    const { figures, interval } = JSON.parse(text) as RecentReport;
    assert.deepEqual([status, interval], [200, 5000]);
    const { memoryBytes, ...others } = figures;
    assert.deepEqual(others, { published: [2], delivered: [2], streams: [1] });
    assert.ok(memoryBytes!.length === 1 && memoryBytes![0]! > 1e6);
    reader.close();
    sse.server.close();
    await once(sse.server, 'close');
    clock.advance(60_000);
    assert.equal((await sse.close()).cut, 0);
  });
});

describe('GET /metrics', () => {
  const served = serve({ limits: { maxConnections: 1 } });

  it('counts openings, closings and refusals by reason', async () => {
    const events = `${served.url}/events?topic=a`;
    const reader = await Reader.open(events, { headers: { 'Last-Event-ID': 'nonsense' } });
    await reader.until(({ frames }) => frames.length === 2);
    served.sse.hub.publish('a', { data: 'x' });
    await reader.until(({ data }) => data.length === 1);
    await ask(events, {});
    await ask(events, { Host: 'evil.example' });
    const { status, headers, text } = await ask(`${served.url}/metrics`, {});
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
    const value = (series: string) =>
      Number(
        text
          .split('\n')
          .find((line) => line.startsWith(`${series} `))
          ?.split(' ')[1],
      );
    const figures = {
      sluice_streams_open: 1,
      sluice_streams_opened_total: 1,
      'sluice_refused_total{reason="host-not-listed"}': 1,
      'sluice_refused_total{reason="server-full"}': 1,
      sluice_connections: 1,
      sluice_connections_waiting: 0,
      sluice_published_events_total: 1,
      sluice_delivered_events_total: 1,
      'sluice_subscriptions_total{outcome="resumed"}': 0,
      'sluice_subscriptions_total{outcome="lost"}': 1,
      'sluice_subscriptions_total{outcome="started"}': 0,
      'sluice_gaps_total{reason="malformed"}': 1,
      sluice_publish_latency_seconds_count: 1,
      sluice_topics: 1,
      sluice_lag_max_events: 0,
      sluice_draining: 0,
    };
    for (const [series, expected] of Object.entries(figures)) assert.equal(value(series), expected, series);
    assert.ok(value('process_resident_memory_bytes') > 1e6);
    reader.close();
    while (served.sse.streams.size > 0) await new Promise(setImmediate);
    assert.match(
      (await ask(`${served.url}/metrics`, {})).text,
      /sluice_streams_closed_total{reason="client-gone"} 1/,
    );
    assert.match(text, /^nodejs_event_loop_delay_seconds_count \d+$/m);
  });

  it('says how far this process is behind a log that several share', () => {
    const log = Object.assign(new HandLog(), { lag: 1500 });
    const { registry } = createSseServer({ hub: { log } });
    assert.match(registry.render(), /^sluice_log_lag_seconds 1\.5$/m);
    assert.match(createSseServer().registry.render(), /^sluice_log_lag_seconds 0$/m);
  });

  it('requires a token where one is configured, and is otherwise served on loopback only', async () => {
    const guarded = createSseServer({ metricsTokens: ['scraper'] });
    const url = await guarded.listen(0, '0.0.0.0').then((text) => text.replace('0.0.0.0', '127.0.0.1'));
    assert.equal((await ask(`${url}/metrics`, {})).status, 401);
    assert.equal((await ask(`${url}/metrics`, bearer('scraper'))).status, 200);
    await guarded.close();
    const open = createSseServer();
    const elsewhere = await open.listen(0, '0.0.0.0').then((text) => text.replace('0.0.0.0', '127.0.0.1'));
    assert.equal((await ask(`${elsewhere}/metrics`, {})).status, 401);
    await open.close();
  });
});

describe('node:diagnostics_channel', () => {
  const served = serve();

  it('publishes openings, closings, gaps and refusals', async () => {
    const told: unknown[] = [];
    const listeners = [
      'sluice.stream.open',
      'sluice.stream.close',
      'sluice.hub.gap',
      'sluice.server.refuse',
    ].map((name) => {
      const listener = (message: unknown) => told.push([name, (message as { reason?: string }).reason]);
      subscribe(name, listener);
      return () => unsubscribe(name, listener);
    });
    await ask(`${served.url}/events?topic=a`, { Host: 'evil.example' });
    const reader = await Reader.open(`${served.url}/events?topic=a&lastEventId=1-1`);
    await reader.until(({ frames }) => frames.length === 2);
    reader.close();
    while (served.sse.streams.size > 0) await new Promise(setImmediate);
    for (const stop of listeners) stop();
    assert.deepEqual(told, [
      ['sluice.server.refuse', 'host-not-listed'],
      ['sluice.stream.open', undefined],
      ['sluice.hub.gap', 'unknown-epoch'],
      ['sluice.stream.close', 'client-gone'],
    ]);
  });
});
