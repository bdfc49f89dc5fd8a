import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import { describe, it, type TestContext } from 'node:test';
import { compose, type Middleware, requestValue } from '../lib/compose.ts';
import { cors } from '../lib/cors.ts';
import { guard } from '../lib/guard.ts';
import { limitConnections } from '../lib/limiter.ts';
import { answerError, httpError } from '../lib/problem.ts';
import { raw } from './helpers/raw.ts';
import { listen } from './helpers/server.ts';

type Log = string[];

/** Logs its name when it is called, and again when everything behind it is done. */
const around =
  (name: string): Middleware<Log, undefined> =>
  async (log, _res, next) => {
    log.push(name);
    await next();
    log.push(`/${name}`);
  };

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function run(...middleware: Middleware<Log, undefined>[]): Promise<Log> {
  const log: Log = [];
  await compose(middleware)(log, undefined);
  return log;
}

describe('compose', () => {
  it('runs the middleware in order, and the code after their next() in reverse order', async () => {
    assert.deepEqual(await run(around('a'), around('b'), around('c')), ['a', 'b', 'c', '/c', '/b', '/a']);
  });

  it('does nothing with no middleware', async () => {
    assert.deepEqual(await run(), []);
  });

  it('passes the same request and response objects to each middleware', async () => {
    const req = {};
    const res = {};
    const seen: unknown[] = [];
    await compose<object, object>([(...args) => seen.push(...args.slice(0, 2))])(req, res);
    assert.equal(seen[0], req);
    assert.equal(seen[1], res);
  });

  it('ends the chain at a middleware that does not call next()', async () => {
    const log = await run(around('a'), (log) => void log.push('b'), around('c'));
    assert.deepEqual(log, ['a', 'b', '/a']);
  });

  it('calls the second middleware in the same turn as the first', () => {
    const log: Log = [];
    compose([around('a'), around('b')])(log, undefined);
    assert.deepEqual(log, ['a', 'b']);
  });

  it('makes a handler that can be called again, also during another call', async () => {
    const handler = compose([around('a'), (_log, _res, next) => turn().then(() => next()), around('b')]);
    const logs: Log[] = [[], []];
    await Promise.all(logs.map((log) => handler(log, undefined)));
    assert.deepEqual(logs, [Array.of('a', 'b', '/b', '/a'), Array.of('a', 'b', '/b', '/a')]);
  });

  it('makes a handler that is a middleware itself and calls next() after its last one', async () => {
    const inner = compose([around('b'), around('c')]);
    assert.deepEqual(await run(around('a'), inner, around('d')), [
      'a',
      'b',
      'c',
      'd',
      '/d',
      '/c',
      '/b',
      '/a',
    ]);
  });

  it('awaits the promise of next() where a Connect-like middleware ignores it', async () => {
    const log = await run(
      (_log, _res, next) => void next(),
      async (log) => {
        await turn();
        log.push('late');
      },
    );
    assert.deepEqual(log, ['late']);
  });

  it('takes next(null) and next(undefined) as no error, as Connect does', async () => {
    for (const nothing of [null, undefined]) {
      assert.deepEqual(await run((_log, _res, next) => next(nothing), around('b')), ['b', '/b']);
    }
  });

  it('throws a TypeError for a middleware that is no function', () => {
    for (const wrong of [undefined, null, {}, 'use'] as never[]) {
      assert.throws(() => compose([around('a'), wrong]), {
        name: 'TypeError',
        message: /`middleware` must hold functions, got /,
      });
    }
  });
});

describe('compose, when a middleware fails', () => {
  const failure = new Error('no');
  const failures: [string, Middleware<Log, undefined>][] = [
    ['throws', () => assert.fail(failure)],
    ['rejects', () => Promise.reject(failure)],
    ['passes the error to next', (_log, _res, next) => next(failure)],
    ['passes the error to next and ignores the promise', (_log, _res, next) => void next(failure)],
    [
      'passes the error to next later, and awaits that',
      (_log, _res, next) => turn().then(() => next(failure)),
    ],
  ];

  for (const [how, fails] of failures) {
    it(`rejects when a middleware ${how}`, async () => {
      await assert.rejects(compose([around('a'), fails])([], undefined), isFailure);
      await assert.rejects(compose([(_log, _res, next) => void next(), fails])([], undefined), isFailure);
    });

    it(`calls onError once and fulfils when a middleware ${how}`, async () => {
      const log: Log = [];
      const errors: unknown[] = [];
      const onError = (error: unknown, { req, res }: { req: Log; res: undefined }) =>
        errors.push(error, req, res);
      await compose([around('a'), fails, around('c')], { onError })(log, undefined);
      assert.equal(errors.length, 3);
      isFailure(errors[0]);
      assert.equal(errors[1], log);
      assert.deepEqual(log, ['a']);
    });
  }

  it('lets a middleware catch the failure of one behind it', async () => {
    const log: Log = [];
    const catches: Middleware<Log, undefined> = async (log, _res, next) => {
      await next().catch(() => log.push('caught'));
    };
    const onError = () => assert.fail('was caught');
    await compose([around('a'), catches, () => Promise.reject(failure)], { onError })(log, undefined);
    assert.deepEqual(log, ['a', 'caught', '/a']);
  });

  it('lets a middleware clean up after the failure of one behind it', async () => {
    const log: Log = [];
    const cleans: Middleware<Log, undefined> = (log, _res, next) => next().finally(() => log.push('cleaned'));
    await assert.rejects(compose([cleans, () => Promise.reject(failure)])(log, undefined), isFailure);
    assert.deepEqual(log, ['cleaned']);
  });

  it('fails when a middleware calls next() twice, awaited or not', async () => {
    const twice: Middleware<Log, undefined>[] = [
      async (_log, _res, next) => {
        await next();
        await next();
      },
      (_log, _res, next) => {
        void next();
        void next();
      },
    ];
    for (const one of twice) {
      const log: Log = [];
      const handler = compose([one, (log) => void log.push('b')]);
      await assert.rejects(handler(log, undefined), { code: 'ERR_SSE_NEXT_CALLED_TWICE' });
      assert.deepEqual(log, ['b'], 'the rest runs once');
    }
  });

  it('calls onError for a failure behind a next() that was called after its middleware returned', async () => {
    const calls = new EventEmitter();
    const keeps: Middleware<Log, undefined> = (_log, _res, next) => void calls.once('next', next);
    const errors: unknown[] = [];
    const handler = compose([keeps, () => Promise.reject(failure)], {
      onError: (error) => errors.push(error),
    });
    await handler([], undefined);
    calls.emit('next');
    await turn();
    assert.deepEqual(errors, [failure]);
  });

  it('does not call onError when such a middleware awaits its late next() and catches the failure', async () => {
    const calls = new EventEmitter();
    const caught: unknown[] = [];
    const keeps: Middleware<Log, undefined> = (_log, _res, next) => {
      calls.once('next', async () => {
        try {
          await next();
        } catch (error) {
          caught.push(error);
        }
      });
    };
    const onError = () => assert.fail('was caught');
    await compose([keeps, () => Promise.reject(failure)], { onError })([], undefined);
    calls.emit('next');
    await turn();
    assert.deepEqual(caught, [failure]);
  });

  it('rejects with the failure of a middleware, and leaves that of the one behind it handled', async () => {
    const both: Middleware<Log, undefined> = (_log, _res, next) => {
      void next();
      throw failure;
    };
    await assert.rejects(compose([both, () => Promise.reject('behind')])([], undefined), isFailure);
    // Node reports unhandled rejections after the microtasks, which fails the test.
    await turn();
  });

  it('awaits an asynchronous onError', async () => {
    const log: Log = [];
    const onError = () => turn().then(() => log.push('told'));
    const fails: Middleware<Log, undefined> = () => Promise.reject(failure);
    await compose([fails], { onError })(log, undefined);
    assert.deepEqual(log, ['told']);
  });

  it('rejects with the error that onError throws', async () => {
    const onError = () => {
      throw failure;
    };
    const fails: Middleware<Log, undefined> = () => Promise.reject('other');
    await assert.rejects(compose([fails], { onError })([], undefined), isFailure);
  });

  function isFailure(error: unknown): true {
    assert.equal(error, failure);
    return true;
  }
});

describe('compose, as the handler of a server', () => {
  it('mixes Connect-like and Koa-like middleware', async (t) => {
    const connect: Middleware<IncomingMessage, ServerResponse> = (req, res, next) => {
      res.setHeader('x-path', req.url ?? '');
      setImmediate(() => next());
    };
    const koa: Middleware<IncomingMessage, ServerResponse> = async (_req, res, next) => {
      await next();
      res.end('after');
    };
    const last: Middleware<IncomingMessage, ServerResponse> = (_req, res) => void res.write('before ');
    const port = await listen(t, createServer(compose([connect, koa, last])));
    const [res] = (await once(get({ port, path: '/p', agent: false }), 'response')) as [IncomingMessage];
    let body = '';
    for await (const piece of res) body += piece;
    assert.deepEqual([body, res.headers['x-path']], ['before after', '/p']);
  });

  describe('where the last middleware calls next()', () => {
    const notFound = { error: 'not-found', message: 'There is nothing at this path.' };
    type HttpMiddleware = Middleware<IncomingMessage, ServerResponse>;
    const answerOf = async (t: TestContext, ...middleware: HttpMiddleware[]) => {
      const onError = (error: unknown) => assert.fail(String(error));
      const port = await listen(t, createServer(compose(middleware, { onError })));
      return raw(port, 'GET / HTTP/1.1', 'Host: localhost');
    };

    for (const [how, calls] of [
      ['ignores its promise', (_req, _res, next) => void next()],
      ['awaits it', async (_req, _res, next) => await next()],
      ['returns it', (_req, _res, next) => next()],
      ['calls it later', (_req, _res, next) => void setImmediate(next)],
    ] as [string, HttpMiddleware][]) {
      it(`answers 404 where it ${how}`, async (t) => {
        for (const middleware of [[calls], [calls, calls], [compose([calls]), calls]]) {
          const { status, body } = await answerOf(t, ...middleware);
          assert.deepEqual([status, JSON.parse(body)], [404, notFound]);
        }
      });
    }

    it('leaves an answer on the way back as it is', async (t) => {
      const after: HttpMiddleware = async (_req, res, next) => {
        await next();
        await turn();
        res.end('after');
      };
      const late: HttpMiddleware = (_req, res, next) =>
        void setImmediate(async () => {
          await next();
          res.end('late');
        });
      const before: HttpMiddleware = (_req, res, next) => {
        res.end('before');
        return next();
      };
      for (const [middleware, text] of [
        [after, 'after'],
        [late, 'late'],
        [before, 'before'],
      ] as const) {
        const { status, body } = await answerOf(t, middleware, (_req, _res, next) => next());
        assert.deepEqual([status, body], [200, text]);
      }
    });

    it('answers 404 with no middleware, over HTTP/2 too', async (t) => {
      assert.equal((await answerOf(t)).status, 404);
      const port = await listen(t, createHttp2Server(compose([guard()])));
      const client = connectHttp2(`http://127.0.0.1:${port}`);
      t.after(() => client.destroy());
      const [headers] = await once(client.request({ ':path': '/' }), 'response');
      assert.equal((headers as { ':status': number })[':status'], 404);
    });
  });

  it('infers plain node:http types, also for functions among the middleware', async (t) => {
    const handler = compose([
      guard({ hosts: (host, req) => host !== '' && req.method === 'GET' }),
      cors({ origins: ['https://app.example'] }),
      limitConnections({ key: (req) => req.headers['x-user']?.toString() }),
      (req, res) => void res.end(req.url satisfies string | undefined),
    ]);
    const typed: (req: IncomingMessage, res: ServerResponse) => Promise<void> = handler;
    const port = await listen(t, createServer(typed));
    assert.equal((await raw(port, 'GET /typed HTTP/1.1', 'Host: localhost')).body, '/typed');
  });

  it('infers the types of node:http2 where they are expected', () => {
    createHttp2Server(compose([guard({}), limitConnections(), (req, res) => res.end(req.authority)]));
  });

  it('infers the types of middleware that fit neither', async () => {
    const log: Log = [];
    await compose([around('a'), (log) => void log.push('b')])(log, undefined);
    // @ts-expect-error: no middleware takes both a request and a list
    compose([guard({}), around('a')]);
    assert.deepEqual(log, ['a', 'b', '/a']);
  });

  it('fails with an error that the client is sent, where `answerError` is `onError`', async (t) => {
    const fails: Middleware<IncomingMessage, ServerResponse> = () =>
      Promise.reject(httpError({ status: 404, error: 'not-found', message: 'There is nothing here.' }));
    const port = await listen(t, createServer(compose([fails], { onError: answerError })));
    const { status, body } = await raw(port, 'GET / HTTP/1.1', 'Host: localhost');
    assert.deepEqual(
      [status, JSON.parse(body)],
      [404, { error: 'not-found', message: 'There is nothing here.' }],
    );
  });

  it('keeps a value per request, for the middleware behind the one that set it', async (t) => {
    const principal = requestValue<{ readonly name: string }>();
    const knows: Middleware<IncomingMessage, ServerResponse> = async (req, _res, next) => {
      principal.set(req, { name: req.url ?? '' });
      await turn();
      await next();
    };
    const last: Middleware<IncomingMessage, ServerResponse> = (req, res) =>
      void res.end(principal.get(req)?.name);
    const port = await listen(t, createServer(compose([knows, last])));
    const answers = await Promise.all(
      ['/a', '/b'].map((path) => raw(port, `GET ${path} HTTP/1.1`, 'Host: localhost')),
    );
    assert.deepEqual(
      answers.map(({ body }) => body),
      ['/a', '/b'],
    );
    assert.equal(principal.get({}), undefined);
  });
});
