// What each attempt of a reader sends, what it learns of the response, and the attempt that is made at once.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttp2Server } from 'node:http2';
import { describe, it, type TestContext } from 'node:test';
import { inspect } from 'node:util';
import {
  type ConnectError,
  type ConnectOptions,
  connect,
  type RequestHeaders,
  type StreamHead,
} from '../lib/client.ts';
import { EventSource } from '../lib/eventsource.ts';
import { fetchTransport, http2Transport, nodeTransport } from '../lib/transport.ts';
import { atOnce, readData } from './helpers/connected.ts';
import { cutAfter, eventStream, frame, idOf, open, whole } from './helpers/misbehaving.ts';
import { listen, serve } from './helpers/server.ts';

/** Longer than any test. */
const HOUR = 3_600_000;

async function failureOf(reading: Promise<unknown>): Promise<ConnectError> {
  return reading.then(
    () => assert.fail('it did not fail'),
    (error) => error as ConnectError,
  );
}

async function textOf(body: AsyncIterable<Uint8Array>): Promise<string> {
  let text = '';
  for await (const chunk of body) text += Buffer.from(chunk);
  return text;
}

describe('onOpen', () => {
  const transports = [
    ['node:http', nodeTransport],
    ['fetch', fetchTransport],
  ] as const;
  for (const [name, transport] of transports) {
    it(`gets the status, the headers and the address of each stream, by ${name}`, async (t) => {
      const { url } = await serve(t, (req, res, attempt) => {
        if (req.url === '/') return res.writeHead(307, { location: '/moved' }).end();
        res.writeHead(201, { ...eventStream, 'X-Run': String(attempt), link: ['<a>', '<b>'] });
        return res.end(frame(attempt));
      });
      const heads: StreamHead[] = [];
      const onOpen = (head: StreamHead): number => heads.push(head);
      await readData(url, { transport: transport(), onOpen: (head) => void onOpen(head) }, 2);
      assert.deepEqual(
        heads.map(({ attempt, status, url: from, headers }) => [attempt, status, from, headers['x-run']]),
        [
          [1, 201, `${url}moved`, '2'],
          [2, 201, `${url}moved`, '4'],
        ],
      );
      assert.equal(heads[0]?.headers.link, '<a>, <b>');
      assert.equal(heads[0]?.headers.constructor, undefined);
    });
  }

  it('gets them over HTTP/2, without its pseudo-headers', async (t) => {
    const server = createHttp2Server();
    server.on('stream', (stream) => {
      stream.respond({ ':status': 200, ...eventStream, 'x-run': '7' });
      stream.end(frame(1));
    });
    const heads: StreamHead[] = [];
    const url = `http://127.0.0.1:${await listen(t, server)}/`;
    await readData(url, { transport: http2Transport(), onOpen: (head) => void heads.push(head) }, 1);
    assert.equal(heads[0]?.headers['x-run'], '7');
    assert.equal(heads[0]?.headers[':status'], undefined);
  });

  it('is awaited before the first event, and ends the loop with what it throws', async (t) => {
    const { url } = await serve(t, (_, res) => open(res, frame(1)));
    const order: string[] = [];
    const onOpen = async (): Promise<void> => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      order.push('opened');
    };
    for await (const { data } of connect(url, { onOpen })) {
      order.push(data);
      break;
    }
    assert.deepEqual(order, ['opened', '1']);
    const refusing = async (): Promise<void> => {
      throw new Error('another version');
    };
    await assert.rejects(readData(url, { onOpen: refusing }), /another version/);
  });

  it('does not keep a connection from being closed while it is pending', async (t) => {
    const { url } = await serve(t, (_, res) => open(res, frame(1)));
    const connection = connect(url, {
      onOpen: () => {
        setImmediate(() => connection.close());
        return new Promise<void>(() => {});
      },
    });
    for await (const _ of connection) assert.fail('an event');
    assert.equal(connection.state, 'closed');
  });
});

describe('the error of a refused attempt', () => {
  async function refusalBy(
    t: TestContext,
    type: string,
    status: number,
    body: string,
  ): Promise<ConnectError> {
    const { url } = await serve(t, (_, res) => {
      res.writeHead(status, { 'content-type': type, 'X-Request': '17', 'set-cookie': 'secret=1' }).end(body);
    });
    return failureOf(readData(url));
  }

  it('has the headers and the body, whatever its type is', async (t) => {
    const error = await refusalBy(t, 'text/html', 403, '<h1>No entry</h1>');
    assert.equal(error.code, 'ERR_SSE_STATUS');
    assert.equal(error.headers?.['x-request'], '17');
    assert.equal(error.body, '<h1>No entry</h1>');
  });

  it('has them also where a response of success is no event stream', async (t) => {
    const error = await refusalBy(t, 'application/json', 200, '{"login":"/in"}');
    assert.deepEqual([error.code, error.status], ['ERR_SSE_CONTENT_TYPE', 200]);
    assert.deepEqual(JSON.parse(String(error.body)), { login: '/in' });
  });

  it('shows neither in a log', async (t) => {
    const error = await refusalBy(t, 'text/plain', 403, 'a token');
    assert.doesNotMatch(inspect(error), /secret|a token/);
    assert.doesNotMatch(JSON.stringify(error), /secret|a token/);
  });

  it('has the first 8 KiB of a longer body, cut between characters', async (t) => {
    const error = await refusalBy(t, 'text/plain', 403, `x${'é'.repeat(8192)}`);
    assert.equal(error.body, `x${'é'.repeat(4095)}`);
  });

  it('has what arrived within a second where the body does not end', async (t) => {
    const { url } = await serve(t, (_, res) => {
      res.writeHead(403, { 'content-type': 'text/plain' }).write('so far');
    });
    assert.equal((await failureOf(readData(url))).body, 'so far');
  });
});

describe('the option request', () => {
  it('begins with a POST, and resumes with a GET elsewhere', async (t) => {
    const bodies: string[] = [];
    const { url, requests } = await serve(t, async (req, res) => {
      bodies.push(await textOf(req));
      if (req.method === 'POST') {
        res.writeHead(200, { ...eventStream, location: '/runs/7' });
        cutAfter(res, frame(1));
      } else if (req.headers['last-event-id'] === idOf(1)) cutAfter(res, frame(2));
      else whole(res, `${frame(3)}event: sluice:end\ndata: {}\n\n`);
    });
    let run = '';
    const data = await readData(`${url}runs`, {
      headers: { authorization: 'Bearer a' },
      request: ({ lastEventId }) =>
        lastEventId === ''
          ? { body: '{"prompt":"go"}', headers: { 'content-type': 'application/json' } }
          : { url: run },
      onOpen: ({ headers }) => {
        run = headers.location ?? run;
      },
    });
    assert.deepEqual(data, ['1', '2', '3']);
    assert.deepEqual(
      requests.map(({ method, url: path, headers }) => [
        `${method} ${path}`,
        headers.authorization,
        headers['content-type'],
        headers['last-event-id'],
      ]),
      [
        ['POST /runs', 'Bearer a', 'application/json', undefined],
        ['GET /runs/7', 'Bearer a', undefined, idOf(1)],
        ['GET /runs/7', 'Bearer a', undefined, idOf(2)],
      ],
    );
    assert.deepEqual(bodies, ['{"prompt":"go"}', '', '']);
  });

  it('resumes with a GET also where the response to the POST has ended in good order', async (t) => {
    const { url } = await serve(t, (req, res) =>
      req.method === 'POST' ? whole(res, frame(1)) : whole(res, `${frame(2)}event: sluice:end\ndata: {}\n\n`),
    );
    const request: ConnectOptions['request'] = ({ lastEventId }) => (lastEventId === '' ? { body: 'x' } : {});
    assert.deepEqual(await readData(url, { request }), ['1', '2']);
  });

  it('does not send a POST twice: the loop throws the failure of the first one', async (t) => {
    const { url, requests } = await serve(t, (_, res) => cutAfter(res, ': nothing yet\n'));
    const request = () => ({ body: 'x' });
    assert.equal((await failureOf(readData(url, { request }))).code, 'ERR_SSE_NETWORK');
    assert.equal(requests.length, 1);
    const again = (_: ConnectError, { attempt }: { attempt: number }) => attempt < 3;
    await failureOf(readData(url, { request, shouldRetry: again }));
    assert.equal(requests.length, 4);
  });

  it('ends the loop without an error where the only response of a POST has ended', async (t) => {
    const { url, requests } = await serve(t, (_, res) => whole(res, frame(1)));
    assert.deepEqual(await readData(url, { request: () => ({ body: 'x' }) }), ['1']);
    assert.equal(requests.length, 1);
  });

  it('learns why the attempt before ended, so that it can renew credentials', async (t) => {
    const { url, requests } = await serve(t, (req, res) => {
      if (req.headers.authorization !== 'Bearer 2') res.writeHead(401, { 'retry-after': '0' }).end();
      else open(res, frame(1));
    });
    let token = 1;
    const headers: ConnectOptions['headers'] = async ({ failure }) => {
      if (failure?.status === 401) token++;
      return { authorization: `Bearer ${token}` };
    };
    const shouldRetry = ({ status }: ConnectError, { attempt }: { attempt: number }) =>
      (status === 401 && attempt === 1) || undefined;
    assert.deepEqual(await readData(url, { headers, shouldRetry }, 1), ['1']);
    assert.deepEqual(
      requests.map((one) => one.headers.authorization),
      ['Bearer 1', 'Bearer 2'],
    );
  });

  it('learns of no failure where reconnect() has ended the attempt before', async (t) => {
    const { url } = await serve(t, (_, res, attempt) =>
      attempt === 2 ? res.writeHead(503).end() : open(res, frame(attempt)),
    );
    const failures: unknown[] = [];
    const connection = connect(url, {
      ...atOnce,
      headers: ({ failure }) => {
        failures.push(failure?.status);
        return {};
      },
    });
    for await (const _ of connection) {
      if (failures.length === 4) break;
      connection.reconnect();
    }
    assert.deepEqual(failures, [undefined, undefined, 503, undefined]);
  });

  for (const [given, message] of [
    [{ url: 'ftp://a.example/' }, /^TypeError: `url` must be http: or https:/],
    [{ method: 'TRACE' }, /^TypeError: `method` must be a method/],
    [{ body: 7 }, /^TypeError: `body` must be a string or a Uint8Array, got number/],
    [{ headers: { a: 'b\nc' } }, /^TypeError: `headers` must have values/],
    [{ headers: new Headers({ a: 'b' }) }, /^TypeError: `headers` must be an object .* Object.fromEntries/],
    [undefined, /^TypeError: `request` must return an object such as \{ url, body \}, got undefined$/],
    [null, /^TypeError: `request` must return an object such as \{ url, body \}, got null$/],
  ] as [object, RegExp][]) {
    it(`ends the loop where it returns ${JSON.stringify(given)}, naming what is wrong`, async () => {
      await assert.rejects(readData('http://127.0.0.1:1/', { request: () => given }), message);
    });
  }

  it('has no Headers beside it that a function returns, of which nothing would be sent', async () => {
    const headers = () => new Headers({ authorization: 'Bearer x' }) as unknown as RequestHeaders;
    const options = { headers, shouldRetry: () => false };
    await assert.rejects(readData('http://127.0.0.1:1/', options), /^TypeError: `headers` must be an object/);
  });

  it('cannot stand beside method or body', () => {
    const request = () => ({});
    for (const beside of [{ method: 'GET' }, { body: 'x' }])
      assert.throws(
        () => connect('http://127.0.0.1/', { request, ...beside }),
        /^TypeError: `method` and `body` must be in what `request` returns/,
      );
    const text = 'GET' as unknown as () => object;
    assert.throws(
      () => connect('http://127.0.0.1/', { request: text }),
      /`request` must be a function, got string/,
    );
  });
});

describe('reconnect()', () => {
  it('ends the wait for the next attempt', async (t) => {
    const { url, requests } = await serve(t, (_, res, attempt) =>
      attempt === 1 ? whole(res, `retry: ${HOUR}\n${frame(1)}`) : open(res, frame(2)),
    );
    const connection = connect(url, {
      maxRetryDelay: HOUR,
      onState: ({ state }) => {
        if (state === 'waiting') setImmediate(() => connection.reconnect());
      },
    });
    const data: string[] = [];
    for await (const event of connection) if (data.push(event.data) === 2) break;
    assert.deepEqual(data, ['1', '2']);
    assert.equal(requests[1]?.headers['last-event-id'], idOf(1));
  });

  it('closes the stream that is open, and resumes after the last event that had arrived', async (t) => {
    const closed: Promise<unknown>[] = [];
    const { url, requests } = await serve(t, (_, res, attempt) => {
      closed.push(once(res, 'close'));
      open(res, attempt === 1 ? frame(1) + frame(2) + frame(3) : frame(4));
    });
    const connection = connect(url);
    const data: string[] = [];
    const states: string[] = [];
    for await (const event of connection) {
      if (data.push(event.data) === 1) connection.reconnect();
      states.push(connection.state);
      if (data.length === 4) break;
    }
    assert.deepEqual(data, ['1', '2', '3', '4']);
    assert.equal(requests[1]?.headers['last-event-id'], idOf(3));
    await closed[0];
  });

  it('gives up an attempt that is under way, in each of its waits', async (t) => {
    const stuck = (): Promise<never> => new Promise(() => {});
    const { url, requests } = await serve(t, (_, res, attempt) => {
      if (attempt > 1) open(res, frame(attempt));
    });
    for (const options of [
      {},
      { headers: ({ attempt }: { attempt: number }) => (attempt === 1 ? stuck() : {}) },
      { request: ({ attempt }: { attempt: number }) => (attempt === 1 ? stuck() : {}) },
      { onOpen: ({ attempt }: { attempt: number }) => (attempt === 1 ? stuck() : undefined) },
    ] satisfies ConnectOptions[]) {
      const connection = connect(url, { ...options, backoffDelay: 0 });
      const next = connection[Symbol.asyncIterator]().next();
      await new Promise((resolve) => setTimeout(resolve, 50));
      while (requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
      connection.reconnect();
      assert.equal((await next).value?.data, String(requests.length));
      assert.equal(connection.attempt, 2);
      connection.close();
    }
  });

  it('may be called from every change of state', async (t) => {
    const { url } = await serve(t, (_, res, attempt) => {
      if (attempt === 2) res.writeHead(503).end();
      else open(res, frame(attempt));
    });
    const seen = new Set<string>();
    const states: string[] = [];
    const connection = connect(url, {
      minRetryDelay: HOUR,
      maxRetryDelay: HOUR,
      onState: ({ state }) => {
        states.push(state);
        if (seen.has(state) || state === 'closed') return;
        seen.add(state);
        connection.reconnect();
      },
    });
    for await (const _ of connection) if (seen.size === 3) break;
    assert.deepEqual(seen, new Set(['connecting', 'open', 'waiting']));
    assert.equal(states.at(-1), 'closed');
  });

  it('begins anew with short waits', async (t) => {
    const { url } = await serve(t, (_, res) => res.socket?.destroy());
    const bounds: number[] = [];
    t.mock.method(Math, 'random', () => 1);
    const connection = connect(url, {
      minRetryDelay: 0,
      backoffDelay: 1,
      onState: ({ state, delay }) => {
        if (state === 'waiting') bounds.push(Number(delay));
        if (bounds.length === 3 && state === 'waiting') connection.reconnect();
        if (bounds.length === 5) connection.close();
      },
    });
    for await (const _ of connection) assert.fail('an event');
    assert.deepEqual(bounds, [1, 2, 4, 1, 2]);
  });

  it('sends a POST again, because the caller says so', async (t) => {
    const { url, requests } = await serve(t, (_, res, attempt) => open(res, frame(attempt)));
    for (const options of [{ body: 'x' }, { request: () => ({ body: 'x' }) }]) {
      const before = requests.length;
      const connection = connect(url, options);
      for await (const _ of connection) {
        if (requests.length === before + 2) break;
        connection.reconnect();
      }
      assert.equal(requests.at(-1)?.method, 'POST');
    }
  });

  it('does nothing before the first attempt and after the last one', async (t) => {
    const { url, requests } = await serve(t, (_, res) => res.writeHead(204).end());
    const connection = connect(url);
    connection.reconnect();
    assert.equal(connection.state, 'idle');
    for await (const _ of connection) assert.fail('an event');
    connection.reconnect();
    assert.deepEqual([connection.state, requests.length], ['closed', 1]);
  });

  it('of EventSource is CONNECTING until it is open again, without an error', async (t) => {
    const { url, requests } = await serve(t, (_, res, attempt) => open(res, frame(attempt)));
    const source = new EventSource(url);
    t.after(() => source.close());
    source.onerror = ({ error }) => assert.fail(String(error));
    await once(source, 'message');
    source.reconnect();
    assert.equal(source.readyState, source.CONNECTING);
    await once(source, 'open');
    assert.deepEqual([source.readyState, source.state], [source.OPEN, 'open']);
    assert.equal(requests[1]?.headers['last-event-id'], idOf(1));
    source.close();
    source.reconnect();
    assert.equal(source.readyState, source.CLOSED);
  });
});
