import assert from 'node:assert/strict';
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { constants, createServer as createHttp2Server } from 'node:http2';
import { describe, it } from 'node:test';
import { answerError, httpError, problemOf, sendProblem } from '../lib/problem.ts';
import { session } from './helpers/http2.ts';
import { raw } from './helpers/raw.ts';
import { listen, serve } from './helpers/server.ts';

const GET = ['GET / HTTP/1.1', 'Host: localhost'] as const;
const INTERNAL = { status: 500, error: 'internal', message: 'The server could not handle the request.' };

describe('sendProblem', () => {
  it('sends one JSON object with its status, which nothing may cache or sniff', async (t) => {
    const { port } = await serve(t, (_req, res) => {
      sendProblem(res, { status: 404, error: 'not-found', message: 'There is no café here.' });
    });
    const { status, headers, body } = await raw(port, ...GET);
    assert.equal(status, 404);
    const text = Buffer.from(body, 'latin1').toString();
    assert.equal(text, '{"error":"not-found","message":"There is no café here."}\n');
    assert.equal(headers['content-type'], 'application/json');
    assert.equal(headers['content-length'], String(body.length));
    assert.equal(headers['cache-control'], 'no-store');
    assert.equal(headers['x-content-type-options'], 'nosniff');
  });

  it('keeps the headers that were set before, and adds those of the problem', async (t) => {
    const { port } = await serve(t, (_req, res) => {
      res.setHeader('Vary', 'Origin');
      const headers = { Allow: 'GET, HEAD' };
      sendProblem(res, { status: 405, error: 'method-not-allowed', message: 'No.', headers });
    });
    const { headers } = await raw(port, ...GET);
    assert.deepEqual([headers.vary, headers.allow], ['Origin', 'GET, HEAD']);
  });

  it('describes its own body, whatever the headers of the problem say', async (t) => {
    const { port } = await serve(t, (_req, res) => {
      const headers = { 'Content-Type': 'text/html', 'Content-Length': '3', 'CACHE-CONTROL': 'public' };
      sendProblem(res, { status: 400, error: 'bad', message: 'No.', headers });
    });
    const { headers, body } = await raw(port, ...GET);
    assert.equal(headers['content-type'], 'application/json');
    assert.equal(headers['content-length'], String(body.length));
    assert.equal(headers['cache-control'], 'no-store');
  });

  it('answers a HEAD request without a body', async (t) => {
    const { port } = await serve(t, (_req, res) => {
      sendProblem(res, { status: 404, error: 'not-found', message: 'No.' });
    });
    const { status, body } = await raw(port, 'HEAD / HTTP/1.1', 'Host: localhost');
    assert.deepEqual([status, body], [404, '']);
  });

  it('works on HTTP/2', async (t) => {
    const server = createHttp2Server((_req, res) => {
      sendProblem(res, { status: 429, error: 'too-fast', message: 'No.', headers: { 'Retry-After': '5' } });
    });
    await listen(t, server);
    const stream = session(t, server).request().setEncoding('utf8');
    const [headers] = await once(stream, 'response');
    let body = '';
    for await (const chunk of stream) body += chunk;
    assert.deepEqual([headers[':status'], headers['retry-after']], [429, '5']);
    assert.equal(JSON.parse(body).error, 'too-fast');
  });
});

describe('problemOf', () => {
  it('reads back the problem of an httpError', () => {
    const problem = { status: 503, error: 'server-full', message: 'Later.', headers: { 'retry-after': '5' } };
    const error = httpError(problem);
    assert.equal(error.code, 'ERR_SSE_SERVER_FULL');
    assert.deepEqual(problemOf(error), problem);
    const bare = { status: 400, error: 'bad-event', message: 'No.' };
    assert.deepEqual(problemOf(httpError(bare)), bare);
  });

  it('reveals an error of ours only with a status from 400 to 599', () => {
    for (const status of [undefined, 200, 399, 600, 404.5, 'none']) {
      const error = Object.assign(new Error('secret'), { code: 'ERR_SSE_TOPIC_ENDED', status });
      assert.deepEqual(problemOf(error), INTERNAL, String(status));
    }
  });

  it('gives an error of body parsers and http-errors its status, and names it after that', () => {
    const parser = Object.assign(new SyntaxError('bad JSON'), { statusCode: 400 });
    assert.deepEqual(problemOf(parser), { status: 400, error: 'bad-request', message: 'bad JSON' });
    const teapot = Object.assign(new Error('short'), { status: 418, code: 'ETEAPOT' });
    assert.deepEqual(problemOf(teapot), { status: 418, error: 'i-m-a-teapot', message: 'short' });
    const silent = Object.assign(new Error(''), { status: 404 });
    assert.deepEqual(problemOf(silent), { status: 404, error: 'not-found', message: 'Not Found' });
    const hidden = Object.assign(new Error('secret'), { status: 404, expose: false });
    assert.deepEqual(problemOf(hidden), { status: 404, error: 'not-found', message: 'Not Found' });
  });

  it('does not pass on the headers of an error that is not ours', () => {
    const headers = { 'content-encoding': 'gzip', 'set-cookie': 'secret' };
    const upstream = Object.assign(new Error('no such model'), { status: 404, headers });
    assert.deepEqual(Object.keys(problemOf(upstream)), ['status', 'error', 'message']);
  });

  it('reveals nothing of any other error', () => {
    const odd = [
      new Error('secret'),
      Object.assign(new Error('secret'), { status: 500 }),
      Object.assign(new Error('secret'), { status: 200 }),
      Object.assign(new Error('secret'), { status: 499 }),
      Object.assign(new Error('secret'), { code: 'ECONNREFUSED' }),
      'secret',
      null,
      undefined,
    ];
    for (const error of odd) assert.deepEqual(problemOf(error), INTERNAL);
  });
});

describe('answerError', () => {
  it('sends the problem of the error', async (t) => {
    const { port } = await serve(t, (_req, res) => {
      answerError(httpError({ status: 409, error: 'topic-ended', message: 'No.' }), { res });
    });
    const { status, body } = await raw(port, ...GET);
    assert.deepEqual([status, JSON.parse(body)], [409, { error: 'topic-ended', message: 'No.' }]);
  });

  it('destroys a response that is unfinished after its head, and leaves a complete one', async (t) => {
    const complete = 'x'.repeat(8 << 20);
    const { port } = await serve(t, (req, res) => {
      const fail = () => answerError(new Error('late'), { res });
      if (req.url === '/stream') return void res.writeHead(200).write('begun', fail);
      res.end(complete);
      fail();
    });
    const [res] = (await once(get({ port, path: '/stream', agent: false }), 'response')) as [IncomingMessage];
    await assert.rejects(
      async () => {
        for await (const _ of res);
      },
      { code: 'ECONNRESET' },
    );
    assert.equal((await raw(port, ...GET)).body.length, complete.length);
  });

  it('cuts an unfinished response of HTTP/2 so that the client does not take that for its end', async (t) => {
    const server = createHttp2Server((_req, res) => {
      res.writeHead(200);
      res.write('begun', () => answerError(new Error('late'), { res }));
    });
    await listen(t, server);
    const client = session(t, server).request({ ':path': '/' }).resume();
    await once(client, 'close');
    assert.equal(client.rstCode, constants.NGHTTP2_CANCEL);
  });
});
