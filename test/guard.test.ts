import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttp2Server } from 'node:http2';
import { describe, it, type TestContext } from 'node:test';
import fc from 'fast-check';
import { type Guard, type GuardOptions, type GuardReason, type GuardRequest, guard } from '../lib/guard.ts';
import { session } from './helpers/http2.ts';
import { raw } from './helpers/raw.ts';
import { listen, serve } from './helpers/server.ts';

/** A server behind the guard that answers `200 in` to the requests that it admits. */
async function guarded(t: TestContext, options?: GuardOptions) {
  const door: Guard = guard(options);
  const { port } = await serve(t, (req, res) => {
    door(req, res, () => res.end('in'));
  });
  return { door, port };
}

const GET = 'GET / HTTP/1.1';

function isRefused(
  response: { status: number; body: string; headers: object },
  status: number,
  reason: GuardReason,
) {
  assert.equal(response.status, status);
  const body = JSON.parse(response.body);
  assert.deepEqual(Object.keys(body), ['error', 'message']);
  assert.equal(body.error, reason);
  const headers = response.headers as Record<string, string>;
  assert.equal(headers['content-type'], 'application/json');
  assert.equal(headers['cache-control'], 'no-store');
}

/** Judges a made-up request, for cases that need many requests or that a socket cannot produce. */
function judge(
  options: GuardOptions,
  headers: Record<string, string>,
  localAddress = '192.0.2.1',
  more = {},
): string {
  let verdict = 'in';
  const onRefuse: GuardOptions['onRefuse'] = ({ reason }) => {
    verdict = reason;
  };
  const door = guard({ ...options, onRefuse });
  const rawHeaders = Object.entries(headers).flat();
  const lower = Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]),
  );
  const socket = { localAddress };
  const req: GuardRequest = {
    httpVersionMajor: 1,
    httpVersionMinor: 1,
    headers: lower,
    rawHeaders,
    socket,
    ...more,
  };
  door(req, { writeHead() {}, end() {} }, () => {});
  return verdict;
}

describe('guard and the Host header', () => {
  it('admits a program that names this machine', async (t) => {
    const { door, port } = await guarded(t);
    for (const host of [
      'localhost',
      `localhost:${port}`,
      '127.0.0.1:1',
      'LocalHost',
      '[::1]:8080',
      '[::1]',
    ]) {
      const { status, body } = await raw(port, GET, `Host: ${host}`);
      assert.deepEqual([status, body], [200, 'in'], host);
    }
    assert.ok(Object.values(door.refused).every((count) => count === 0));
  });

  it('refuses any other name on loopback with 421, which stops DNS rebinding', async (t) => {
    const { port } = await guarded(t);
    for (const host of [
      'evil.example',
      'localhost.evil.example',
      '127.0.0.1.nip.io',
      'localhost.',
      '0.0.0.0',
    ]) {
      isRefused(await raw(port, GET, `Host: ${host}`), 421, 'host-not-listed');
    }
  });

  it('refuses two Host headers, none, and one that is malformed', async (t) => {
    const { door, port } = await guarded(t);
    isRefused(await raw(port, GET, 'Host: localhost', 'Host: localhost'), 400, 'host-repeated');
    isRefused(await raw(port, GET, 'Host: localhost', 'hOST: evil.example'), 400, 'host-repeated');
    isRefused(await raw(port, 'GET / HTTP/1.0'), 400, 'host-missing');
    for (const host of [
      '',
      'a b',
      'user@localhost',
      'localhost/x',
      'localhost:',
      'localhost:x',
      'a,b',
      '[::1',
      '\xe9',
    ]) {
      isRefused(await raw(port, GET, `Host: ${host}`), 400, 'host-malformed');
    }
    assert.equal(door.refused['host-repeated'], 2);
    assert.equal(door.refused['host-missing'], 1);
    assert.equal(door.refused['host-malformed'], 9);
  });

  it('admits only the listed hosts, on any port or on the listed one', async (t) => {
    const { port } = await guarded(t, { hosts: ['Example.com', 'tight.example:8443'] });
    for (const host of ['example.com', 'EXAMPLE.com:99', 'tight.example:8443']) {
      assert.equal((await raw(port, GET, `Host: ${host}`)).status, 200, host);
    }
    for (const host of ['localhost', 'tight.example', 'tight.example:443', 'xexample.com']) {
      assert.equal((await raw(port, GET, `Host: ${host}`)).status, 421, host);
    }
  });

  it('asks a function about hosts', async (t) => {
    const { port } = await guarded(t, { hosts: (host) => /^[a-z]+\.example:80$/.test(host) });
    assert.equal((await raw(port, GET, 'Host: Tenant.example:80')).status, 200);
    assert.equal((await raw(port, GET, 'Host: localhost')).status, 421);
  });

  it('admits any host over the network when none are listed, but not over loopback', () => {
    const host = { Host: 'any.example' };
    assert.equal(judge({}, host, '192.0.2.1'), 'in');
    assert.equal(judge({}, host, '2001:db8::1'), 'in');
    for (const address of ['127.0.0.1', '127.8.8.8', '::1', '::ffff:127.0.0.1']) {
      assert.equal(judge({}, host, address), 'host-not-listed', address);
    }
  });

  it('admits HTTP/1.0 without a Host header where any host is admitted', () => {
    const old = { httpVersionMinor: 0 };
    assert.equal(judge({}, {}, '192.0.2.1', old), 'in');
    assert.equal(judge({}, {}, '127.0.0.1', old), 'host-missing');
    assert.equal(judge({ hosts: ['a.example'] }, {}, '192.0.2.1', old), 'host-missing');
    assert.equal(judge({}, {}, '192.0.2.1'), 'host-missing');
  });

  it('reads :authority on HTTP/2, and refuses a Host header that differs from it', async (t) => {
    const door = guard();
    const server = createHttp2Server((req, res) => void door(req, res, () => res.end('in')));
    await listen(t, server);
    const client = session(t, server);
    const ask = async (headers: Record<string, string>) => {
      const stream = client.request(headers);
      const [head] = await once(stream, 'response');
      stream.resume();
      await once(stream, 'close');
      return head[':status'];
    };
    assert.equal(await ask({ ':authority': 'localhost:1' }), 200);
    assert.equal(await ask({ ':authority': 'evil.example' }), 421);
    assert.equal(await ask({ ':authority': 'localhost', host: 'localhost' }), 200);
    assert.equal(await ask({ ':authority': 'localhost', host: 'evil.example' }), 400);
    assert.equal(await ask({ ':authority': 'localhost', 'sec-fetch-site': 'cross-site' }), 403);
  });
});

describe('guard and the pages of other sites', () => {
  const HOST = 'Host: localhost:8080';

  it('admits its own pages, with or without Fetch-Metadata', async (t) => {
    const { port } = await guarded(t);
    for (const lines of [
      ['Origin: http://localhost:8080'],
      ['Sec-Fetch-Site: same-origin'],
      ['Sec-Fetch-Site: same-origin', 'Origin: null'],
      ['Sec-Fetch-Site: none'],
    ]) {
      assert.equal((await raw(port, GET, HOST, ...lines)).status, 200, lines.join());
    }
    assert.equal((await raw(port, GET, 'Host: localhost', 'Origin: https://localhost')).status, 200);
    assert.equal((await raw(port, GET, 'Host: localhost:443', 'Origin: https://localhost')).status, 200);
  });

  it('refuses the pages of other origins, and null', async (t) => {
    const { door, port } = await guarded(t);
    const strangers = [
      'https://evil.example',
      'http://localhost:3000',
      'null',
      'http://localhost:8080, x',
      '',
    ];
    for (const origin of strangers) {
      isRefused(await raw(port, GET, HOST, `Origin: ${origin}`), 403, 'origin-not-listed');
    }
    const twice = await raw(
      port,
      GET,
      HOST,
      'Origin: http://localhost:8080',
      'Origin: http://localhost:8080',
    );
    assert.equal(twice.status, 403);
    assert.equal(door.refused['origin-not-listed'], strangers.length + 1);
  });

  it('refuses what a page of another site sends without an Origin', async (t) => {
    const { door, port } = await guarded(t);
    const image = ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: no-cors', 'Sec-Fetch-Dest: image'];
    isRefused(await raw(port, GET, HOST, ...image), 403, 'cross-site');
    assert.equal(door.refused['cross-site'], 1);
  });

  it('admits the listed origins exactly as written', async (t) => {
    const { port } = await guarded(t, { origins: ['https://app.example', 'capacitor://localhost'] });
    const from = (origin: string) => raw(port, GET, HOST, `Origin: ${origin}`, 'Sec-Fetch-Site: cross-site');
    assert.equal((await from('https://app.example')).status, 200);
    assert.equal((await from('capacitor://localhost')).status, 200);
    for (const origin of [
      'http://app.example',
      'https://app.example:444',
      'https://app.example.evil.example',
    ]) {
      isRefused(await from(origin), 403, 'origin-not-listed');
    }
  });

  it('asks a function about origins, but never about null', async (t) => {
    const asked: string[] = [];
    const origins = (origin: string) => asked.push(origin) > 0 && origin.endsWith('.example');
    const { port } = await guarded(t, { origins });
    assert.equal((await raw(port, GET, HOST, 'Origin: https://a.example')).status, 200);
    assert.equal((await raw(port, GET, HOST, 'Origin: https://a.test')).status, 403);
    assert.equal((await raw(port, GET, HOST, 'Origin: null')).status, 403);
    assert.deepEqual(asked, ['https://a.example', 'https://a.test']);
  });

  it('lets a link on another site open a page only where navigation is allowed', () => {
    const link = {
      Host: 'a.example',
      'Sec-Fetch-Site': 'cross-site',
      'Sec-Fetch-Mode': 'navigate',
      'Sec-Fetch-Dest': 'document',
    };
    assert.equal(judge({}, link, '192.0.2.1', { method: 'GET' }), 'cross-site');
    assert.equal(judge({ navigation: true }, link, '192.0.2.1', { method: 'GET' }), 'in');
    assert.equal(judge({ navigation: true }, link, '192.0.2.1', { method: 'POST' }), 'cross-site');
    const toPage = ({ url }: GuardRequest) => url === '/';
    assert.equal(judge({ navigation: toPage }, link, '192.0.2.1', { method: 'GET', url: '/' }), 'in');
    assert.equal(
      judge({ navigation: toPage }, link, '192.0.2.1', { method: 'GET', url: '/a' }),
      'cross-site',
    );
    const frame = { ...link, 'Sec-Fetch-Dest': 'iframe' };
    assert.equal(judge({ navigation: true }, frame, '192.0.2.1', { method: 'GET' }), 'cross-site');
  });
});

describe('guard as a middleware', () => {
  it('calls next() once and returns what that returns', async () => {
    const door = guard({ hosts: () => true });
    const req = {
      httpVersionMajor: 1,
      httpVersionMinor: 1,
      headers: {},
      rawHeaders: ['Host', 'a'],
      socket: {},
    };
    let calls = 0;
    const result = door(req, { writeHead: assert.fail, end: assert.fail }, async () => ++calls);
    assert.equal(await result, 1);
  });

  it('calls onRefuse with the reason, the status and the request', async (t) => {
    const told: unknown[] = [];
    const onRefuse: GuardOptions['onRefuse'] = ({ reason, status, req }) =>
      told.push([reason, status, req.headers['user-agent']]);
    const { port } = await guarded(t, { onRefuse });
    await raw(port, GET, 'Host: evil.example', 'User-Agent: test');
    assert.deepEqual(told, [['host-not-listed', 421, 'test']]);
  });

  it('takes no answer but true for a yes, and throws a TypeError for a promise', () => {
    const host = { Host: 'a.example' };
    const link = {
      ...host,
      'Sec-Fetch-Site': 'cross-site',
      'Sec-Fetch-Mode': 'navigate',
      'Sec-Fetch-Dest': 'document',
    };
    const get = { method: 'GET' };
    assert.equal(judge({ hosts: () => 1 as never }, host), 'host-not-listed');
    assert.equal(judge({ navigation: () => 'yes' as never }, link, undefined, get), 'cross-site');
    const no = (async () => false) as never;
    assert.throws(() => judge({ hosts: no }, host), /^TypeError: `hosts` must answer true or false/);
    assert.throws(
      () => judge({ origins: no }, { ...host, Origin: 'https://a.test' }),
      /`origins` must answer/,
    );
    assert.throws(() => judge({ navigation: no }, link, undefined, get), /`navigation` must answer/);
  });

  it('admits no Host header but a listed one with or without a port: property', () => {
    const word = fc.constantFrom(
      'localhost',
      '127.0.0.1',
      'evil',
      '.',
      ':',
      '@',
      '[',
      ']',
      '80',
      ' ',
      '/',
      'é',
      '\t',
      ',',
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 6 }), (parts) => {
        const host = parts.join('');
        const isListed = /^(localhost|127\.0\.0\.1)(:\d{1,5})?$/.test(host);
        assert.equal(judge({}, { Host: host }, '127.0.0.1') === 'in', isListed, JSON.stringify(host));
      }),
    );
  });

  it('rejects hosts and origins that could never match, naming the form to write', () => {
    assert.throws(() => guard({ origins: ['https://a.example/'] }), /write "https:\/\/a.example"$/);
    for (const host of ['http://a.example', 'a.example/', '::1', '*.a.example', '']) {
      assert.throws(
        () => guard({ hosts: [host] }),
        /^TypeError: `hosts` must hold names such as .* got /,
        host,
      );
    }
  });
});
