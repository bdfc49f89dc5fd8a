import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttp2Server } from 'node:http2';
import { describe, it, type TestContext } from 'node:test';
import { type CorsOptions, type CorsRequest, cors } from '../lib/cors.ts';
import { session } from './helpers/http2.ts';
import { raw } from './helpers/raw.ts';
import { listen, serve } from './helpers/server.ts';

const APP = 'https://app.example';
const HOST = 'Host: localhost';
const PREFLIGHT = ['OPTIONS / HTTP/1.1', HOST, 'Access-Control-Request-Method: GET'] as const;

/** A server behind `cors` that answers `200 in`. `vary` is the header that was set before. */
async function shared(t: TestContext, options: CorsOptions, vary?: string | string[]) {
  const share = cors(options);
  const { port } = await serve(t, (req, res) => {
    if (vary !== undefined) res.setHeader('Vary', vary);
    share(req, res, () => res.end('in'));
  });
  return port;
}

function corsHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  const ours = Object.entries(headers).filter(
    ([name]) => name === 'vary' || name.startsWith('access-control'),
  );
  return Object.fromEntries(ours);
}

/** What pages may read by default. */
const EXPOSED = 'Allow, Retry-After, WWW-Authenticate';

describe('cors', () => {
  it('lets the pages of a listed origin read, and makes caches vary by origin', async (t) => {
    const port = await shared(t, { origins: [APP] });
    const { status, headers, body } = await raw(port, 'GET / HTTP/1.1', HOST, `Origin: ${APP}`);
    assert.deepEqual([status, body], [200, 'in']);
    assert.deepEqual(corsHeaders(headers), {
      'access-control-allow-origin': APP,
      'access-control-expose-headers': EXPOSED,
      vary: 'Origin',
    });
  });

  it('answers other origins, and programs, without CORS headers', async (t) => {
    const port = await shared(t, { origins: [APP], credentials: true, exposedHeaders: ['X-Id'] });
    const others = [
      'https://app.example.evil.example',
      'http://app.example',
      'https://app.example:8443',
      'null',
      '',
    ];
    for (const lines of [[], ...others.map((origin) => [`Origin: ${origin}`])]) {
      const { status, headers } = await raw(port, 'GET / HTTP/1.1', HOST, ...lines);
      assert.equal(status, 200);
      assert.deepEqual(corsHeaders(headers), { vary: 'Origin' }, lines.join());
    }
  });

  it('answers a preflight with 204 and does not call next()', async (t) => {
    const port = await shared(t, {
      origins: [APP],
      credentials: true,
      methods: ['GET', 'DELETE'],
      headers: ['Last-Event-ID', 'X-Token'],
      exposedHeaders: ['X-Id'],
      maxAge: 90_500,
    });
    const { status, headers, body } = await raw(port, ...PREFLIGHT, `Origin: ${APP}`);
    assert.deepEqual([status, body], [204, '']);
    assert.deepEqual(corsHeaders(headers), {
      'access-control-allow-origin': APP,
      'access-control-allow-credentials': 'true',
      'access-control-allow-methods': 'GET, DELETE',
      'access-control-allow-headers': 'Last-Event-ID, X-Token',
      'access-control-max-age': '90',
      vary: 'Origin',
    });
  });

  it('answers the preflight of an origin that is not listed with a 204 that allows nothing', async (t) => {
    const port = await shared(t, { origins: [APP], credentials: true });
    const { status, headers } = await raw(port, ...PREFLIGHT, 'Origin: https://evil.example');
    assert.equal(status, 204);
    assert.deepEqual(corsHeaders(headers), { vary: 'Origin' });
  });

  it('calls next() for an OPTIONS request that is no preflight', async (t) => {
    const port = await shared(t, { origins: [APP] });
    assert.equal((await raw(port, 'OPTIONS / HTTP/1.1', HOST, `Origin: ${APP}`)).body, 'in');
    assert.equal((await raw(port, ...PREFLIGHT)).body, 'in');
  });

  it('exposes headers and allows credentials on the answer to the request itself', async (t) => {
    const port = await shared(t, { origins: [APP], credentials: true, exposedHeaders: ['X-Id', 'X-More'] });
    const { headers } = await raw(port, 'GET / HTTP/1.1', HOST, `Origin: ${APP}`);
    assert.equal(headers['access-control-expose-headers'], 'X-Id, X-More');
    assert.equal(headers['access-control-allow-credentials'], 'true');
  });

  it('adds to a Vary header that was set before', async (t) => {
    const cases: [string | string[], string][] = [
      ['Accept-Encoding', 'Accept-Encoding, Origin'],
      [['Accept', 'Cookie'], 'Accept, Cookie, Origin'],
      ['Accept,ORIGIN', 'Accept,ORIGIN'],
      ['*', '*'],
      ['', 'Origin'],
    ];
    for (const [before, after] of cases) {
      const port = await shared(t, { origins: [APP] }, before);
      assert.equal((await raw(port, 'GET / HTTP/1.1', HOST)).headers.vary, after);
    }
  });

  it('lets every page read with *, and does not vary by origin then', async (t) => {
    for (const origins of ['*', ['*']] as const) {
      const port = await shared(t, { origins });
      const { headers } = await raw(port, 'GET / HTTP/1.1', HOST, 'Origin: https://any.example');
      const exposed = { 'access-control-expose-headers': EXPOSED };
      assert.deepEqual(corsHeaders(headers), { 'access-control-allow-origin': '*', ...exposed });
    }
  });

  it('asks a function about origins, but never about null', async (t) => {
    const asked: string[] = [];
    const origins = (origin: string, req: CorsRequest) =>
      asked.push(origin) > 0 && req.headers['x-ok'] === '1';
    const port = await shared(t, { origins });
    const ask = async (...lines: string[]) => {
      const { headers } = await raw(port, 'GET / HTTP/1.1', HOST, ...lines);
      return headers['access-control-allow-origin'];
    };
    assert.equal(await ask('Origin: https://a.example', 'X-Ok: 1'), 'https://a.example');
    assert.equal(await ask('Origin: https://a.example'), undefined);
    assert.equal(await ask('Origin: null', 'X-Ok: 1'), undefined);
    assert.deepEqual(asked, ['https://a.example', 'https://a.example']);
  });

  it('works on HTTP/2', async (t) => {
    const share = cors({ origins: [APP] });
    const server = createHttp2Server((req, res) => void share(req, res, () => res.end('in')));
    await listen(t, server);
    const client = session(t, server);
    const stream = client.request({
      ':method': 'OPTIONS',
      origin: APP,
      'access-control-request-method': 'POST',
    });
    const [headers] = await once(stream, 'response');
    stream.resume();
    assert.equal(headers[':status'], 204);
    assert.equal(headers['access-control-allow-origin'], APP);
    assert.equal(headers.vary, 'Origin');
  });

  it('returns what next() returns', async () => {
    const share = cors({ origins: [APP] });
    const res = { statusCode: 200, getHeader: () => undefined, setHeader() {}, end: assert.fail };
    assert.equal(await share({ headers: {} }, res, async () => 'done'), 'done');
  });

  it('rejects a wildcard together with credentials', () => {
    const credentials = true;
    assert.throws(() => cors({ origins: '*', credentials }), {
      name: 'TypeError',
      message: '`origins` must not be "*" together with `credentials`',
    });
    assert.throws(() => cors({ origins: [APP, '*'], credentials }), /`origins` must not be "\*"/);
    assert.throws(
      () => cors({ origins: [APP], credentials, methods: ['*'] }),
      /^TypeError: `methods` must not hold "\*"/,
    );
    assert.throws(
      () => cors({ origins: [APP], credentials, headers: ['*'] }),
      /`headers` must not hold "\*"/,
    );
    assert.throws(() => cors({ origins: [APP], credentials, exposedHeaders: ['*'] }), /`exposedHeaders`/);
  });

  it('rejects origins that could never match', () => {
    assert.throws(() => cors({ origins: ['https://app.example/'] }), /write "https:\/\/app.example"$/);
    assert.throws(
      () => cors({ origins: APP as never }),
      /^TypeError: `origins` must be a list or a function/,
    );
  });

  it('rejects other options that are out of range, naming the option and its value', () => {
    const origins = [APP];
    assert.throws(
      () => cors({ origins, methods: ['GET, POST'] }),
      /^TypeError: `methods` must hold HTTP names, got "GET, POST"$/,
    );
    assert.throws(() => cors({ origins, headers: ['X\r\nY'] }), /`headers` must hold HTTP names/);
    assert.throws(
      () => cors({ origins, maxAge: 600 }),
      /^RangeError: `maxAge` must be 0 or from 1000 to .*, got 600$/,
    );
    assert.throws(() => cors({ origins, maxAge: Number.NaN }), /`maxAge`/);
    cors({ origins, maxAge: 0 });
  });
});
