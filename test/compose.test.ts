import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import { describe, it } from 'node:test';
import { answerError, compose, type Middleware, requestValue } from '../lib/compose.ts';
import { raw } from './helpers/raw.ts';
import { listen } from './helpers/server.ts';

type Log = string[];

/** Notes when it is entered and when everything behind it is done. */
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
  it('runs the middleware in order, and what is after their next() in the order reversed', async () => {
    assert.deepEqual(await run(around('a'), around('b'), around('c')), ['a', 'b', 'c', '/c', '/b', '/a']);
  });

  it('does nothing with no middleware', async () => {
    assert.deepEqual(await run(), []);
  });

  it('hands each the very request and response', async () => {
    const req = {};
    const res = {};
    const seen: unknown[] = [];
    await compose([(...args) => seen.push(...args.slice(0, 2))])(req, res);
    assert.equal(seen[0], req);
    assert.equal(seen[1], res);
  });

  it('ends the chain at the one who does not call next()', async () => {
    const log = await run(around('a'), (log) => void log.push('b'), around('c'));
    assert.deepEqual(log, ['a', 'b', '/a']);
  });

  it('goes on at once: the second is entered in the same turn as the first', () => {
    const log: Log = [];
    compose([around('a'), around('b')])(log, undefined);
    assert.deepEqual(log, ['a', 'b']);
  });

  it('may be called again, also while a call is under way', async () => {
    const handler = compose([around('a'), (_log, _res, next) => turn().then(() => next()), around('b')]);
    const logs: Log[] = [[], []];
    await Promise.all(logs.map((log) => handler(log, undefined)));
    assert.deepEqual(logs, [Array.of('a', 'b', '/b', '/a'), Array.of('a', 'b', '/b', '/a')]);
  });

  it('is a middleware itself, and goes on behind its last one', async () => {
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

  it('waits for what a Connect-like middleware dropped', async () => {
    const log = await run(
      (_log, _res, next) => void next(),
      async (log) => {
        await turn();
        log.push('late');
      },
    );
    assert.deepEqual(log, ['late']);
  });

  it('takes next(null) and next(undefined) for no error, as Connect does', async () => {
    for (const nothing of [null, undefined]) {
      assert.deepEqual(await run((_log, _res, next) => next(nothing), around('b')), ['b', '/b']);
    }
  });

  it('refuses what is no function, when it is composed', () => {
    for (const wrong of [undefined, null, {}, 'use'] as never[]) {
      assert.throws(() => compose([around('a'), wrong]), {
        name: 'TypeError',
        message: /middleware must be a/,
      });
    }
  });
});

describe('compose, where something fails', () => {
  const failure = new Error('no');
  const failures: [string, Middleware<Log, undefined>][] = [
    ['throws', () => assert.fail(failure)],
    ['rejects', () => Promise.reject(failure)],
    ['hands it to next', (_log, _res, next) => next(failure)],
    ['hands it to next and drops that', (_log, _res, next) => void next(failure)],
    ['hands it to next later, and waits', (_log, _res, next) => turn().then(() => next(failure))],
  ];

  for (const [how, fails] of failures) {
    it(`rejects when a middleware ${how}`, async () => {
      await assert.rejects(compose([around('a'), fails])([], undefined), isFailure);
      await assert.rejects(compose([(_log, _res, next) => void next(), fails])([], undefined), isFailure);
    });

    it(`gives it to onError, once, when a middleware ${how}, and then fulfils`, async () => {
      const log: Log = [];
      const errors: unknown[] = [];
      const onError = (error: unknown, req: Log, res: undefined) => errors.push(error, req, res);
      await compose([around('a'), fails, around('c')], { onError })(log, undefined);
      assert.equal(errors.length, 3);
      isFailure(errors[0]);
      assert.equal(errors[1], log);
      assert.deepEqual(log, ['a']);
    });
  }

  it('lets a middleware catch what fails behind it', async () => {
    const log: Log = [];
    const catches: Middleware<Log, undefined> = async (log, _res, next) => {
      await next().catch(() => log.push('caught'));
    };
    const onError = () => assert.fail('was caught');
    await compose([around('a'), catches, () => Promise.reject(failure)], { onError })(log, undefined);
    assert.deepEqual(log, ['a', 'caught', '/a']);
  });

  it('lets a middleware clean up after what fails behind it', async () => {
    const log: Log = [];
    const cleans: Middleware<Log, undefined> = (log, _res, next) => next().finally(() => log.push('cleaned'));
    await assert.rejects(compose([cleans, () => Promise.reject(failure)])(log, undefined), isFailure);
    assert.deepEqual(log, ['cleaned']);
  });

  it('rejects the second next() of one middleware, however it was called', async () => {
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
      await assert.rejects(handler(log, undefined), /next\(\) was called twice/);
      assert.deepEqual(log, ['b'], 'the rest runs once');
    }
  });

  it('gives onError what fails behind a next() that was called after its middleware returned', async () => {
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

  it('leaves it to such a middleware when it waits for its late next() and catches', async () => {
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

  it('tells the failure of a middleware, and leaves none behind it unhandled', async () => {
    const both: Middleware<Log, undefined> = (_log, _res, next) => {
      void next();
      throw failure;
    };
    await assert.rejects(compose([both, () => Promise.reject('behind')])([], undefined), isFailure);
    // What is unhandled is told after the microtasks, and fails the test.
    await turn();
  });

  it('waits for an onError that takes its time', async () => {
    const log: Log = [];
    const onError = () => turn().then(() => log.push('told'));
    await compose([() => Promise.reject(failure)], { onError })(log, undefined);
    assert.deepEqual(log, ['told']);
  });

  it('rejects with what onError itself throws', async () => {
    const onError = () => {
      throw failure;
    };
    await assert.rejects(compose([() => Promise.reject('other')], { onError })([], undefined), isFailure);
  });

  /** Both the failure itself and, where `assert.fail` threw it, that. */
  function isFailure(error: unknown): true {
    assert.equal(error, failure);
    return true;
  }
});

describe('compose, around a server', () => {
  it('is its request handler, with Connect-like and Koa-like middleware mixed', async (t) => {
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

  const HOST = 'Host: localhost';

  it('tells of a failure once, as JSON, and nothing of what is not the client’s to know', async (t) => {
    const failures: Record<string, unknown> = {
      '/ours': new Error('secret'),
      '/theirs': Object.assign(new Error('no such thing'), { status: 404 }),
      '/parser': Object.assign(new SyntaxError('bad JSON'), { statusCode: 400 }),
      '/odd': Object.assign(new Error('secret'), { status: 200 }),
      '/nothing': undefined,
    };
    const fails: Middleware<IncomingMessage, ServerResponse> = (req) =>
      Promise.reject(failures[req.url ?? '']);
    const port = await listen(t, createServer(compose([fails], { onError: answerError })));
    const internal = [500, { error: 'internal', message: 'Something went wrong on the server.' }];
    for (const [path, expected] of Object.entries({
      '/ours': internal,
      '/theirs': [404, { error: 'not_found', message: 'no such thing' }],
      '/parser': [400, { error: 'bad_request', message: 'bad JSON' }],
      '/odd': internal,
      '/nothing': internal,
    })) {
      const { status, headers, body } = await raw(port, `GET ${path} HTTP/1.1`, HOST);
      assert.deepEqual([status, JSON.parse(body)], expected, path);
      assert.equal(headers['content-type'], 'application/json');
    }
  });

  it('cuts a response that fails after its head, and leaves one that is complete', async (t) => {
    const fails: Middleware<IncomingMessage, ServerResponse> = (req, res) => {
      if (req.url === '/stream') res.writeHead(200).write('begun');
      else res.end('complete');
      throw new Error('late');
    };
    const port = await listen(t, createServer(compose([fails], { onError: answerError })));
    const [res] = (await once(get({ port, path: '/stream', agent: false }), 'response')) as [IncomingMessage];
    await assert.rejects(
      async () => {
        for await (const _ of res);
      },
      { code: 'ECONNRESET' },
    );
    assert.equal((await raw(port, 'GET /answer HTTP/1.1', HOST)).body, 'complete');
  });

  it('keeps with each request what a middleware leaves for those behind it', async (t) => {
    const principal = requestValue<{ readonly name: string }>();
    const knows: Middleware<IncomingMessage, ServerResponse> = async (req, _res, next) => {
      principal.set(req, { name: req.url ?? '' });
      await turn();
      await next();
    };
    const last: Middleware<IncomingMessage, ServerResponse> = (req, res) =>
      void res.end(principal.get(req)?.name);
    const port = await listen(t, createServer(compose([knows, last])));
    const answers = await Promise.all(['/a', '/b'].map((path) => raw(port, `GET ${path} HTTP/1.1`, HOST)));
    assert.deepEqual(
      answers.map(({ body }) => body),
      ['/a', '/b'],
    );
    assert.equal(principal.get({}), undefined);
  });
});
