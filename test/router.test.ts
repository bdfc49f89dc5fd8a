import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Found, type Missed, Router } from '../lib/router.ts';
import { splitTarget } from '../lib/target.ts';
import { ask, dial } from './helpers/raw.ts';
import { listen } from './helpers/server.ts';

/** A router whose values are the patterns themselves. */
function routing(...routes: string[]): Router<string> {
  const router = new Router<string>();
  for (const route of routes) {
    const [method = '', pattern = ''] = route.split(' ');
    router.add(method, pattern, pattern);
  }
  return router;
}

/** The value that was found and its parameters, or the status and the allowed methods. */
function answer(found: Found<string> | Missed): unknown[] {
  if (found.status !== 200) return [found.status, found.allow];
  assert.equal(found.pattern, found.value);
  return [found.value, { ...found.params }];
}

describe('Router', () => {
  const router = routing(
    'GET /',
    'GET /topics',
    'POST /topics/:topic',
    'DELETE /topics/:topic',
    'GET /a/:b/:c',
  );

  it('finds the value stored for a method and a path', () => {
    assert.deepEqual(answer(router.find('GET', '/')), ['/', {}]);
    assert.deepEqual(answer(router.find('GET', '/topics')), ['/topics', {}]);
    assert.deepEqual(answer(router.find('GET', '/a/1/2')), ['/a/:b/:c', { b: '1', c: '2' }]);
  });

  it('stores any value, also undefined', () => {
    const found = new Router<undefined>().add('GET', '/', undefined).find('GET', '/');
    assert.deepEqual([found.status, 'value' in found], [200, true]);
  });

  it('ignores the query', () => {
    for (const target of ['/topics?', '/topics?a=/b', '/topics?a?b', '/topics#x', '/topics?%']) {
      assert.deepEqual(answer(router.find('GET', target)), ['/topics', {}], target);
    }
  });

  it('answers 404 where no pattern matches', () => {
    for (const target of [
      '/topic',
      '/topics/',
      '/topics/a/b',
      '/a',
      '/a/1',
      '/a/1/2/3',
      '//',
      '/Topics',
      '/./topics',
    ]) {
      assert.deepEqual(answer(router.find('GET', target)), [404, []], target);
    }
  });

  it('answers 405 with the allowed methods where a pattern matches with others', () => {
    assert.deepEqual(answer(router.find('PUT', '/topics/a')), [405, ['POST', 'DELETE']]);
    assert.deepEqual(answer(router.find('HEAD', '/topics/a')), [405, ['POST', 'DELETE']]);
    assert.deepEqual(answer(router.find('POST', '/topics')), [405, ['GET', 'HEAD']]);
    assert.deepEqual(answer(router.find('get', '/topics')), [405, ['GET', 'HEAD']]);
  });

  it('finds the value of GET for HEAD, unless one is stored for HEAD', () => {
    assert.deepEqual(answer(router.find('HEAD', '/topics')), ['/topics', {}]);
    const own = new Router<string>().add('GET', '/', 'get').add('HEAD', '/', 'head');
    const found = own.find('HEAD', '/');
    assert.equal(found.status === 200 && found.value, 'head');
    assert.deepEqual(answer(own.find('PUT', '/')), [405, ['GET', 'HEAD']]);
  });

  it('prefers a literal to a parameter', () => {
    const both = routing('GET /:any', 'GET /fixed', 'POST /:any');
    assert.deepEqual(answer(both.find('GET', '/fixed')), ['/fixed', {}]);
    assert.deepEqual(answer(both.find('GET', '/other')), ['/:any', { any: 'other' }]);
  });

  it('falls back to the parameter where the rest of the path does not match behind the literal', () => {
    const forks = routing('GET /a/b/c', 'GET /a/:x/d', 'GET /:y/b/e', 'GET /:y/:z/f');
    assert.deepEqual(answer(forks.find('GET', '/a/b/c')), ['/a/b/c', {}]);
    assert.deepEqual(answer(forks.find('GET', '/a/b/d')), ['/a/:x/d', { x: 'b' }]);
    assert.deepEqual(answer(forks.find('GET', '/a/b/e')), ['/:y/b/e', { y: 'a' }]);
    assert.deepEqual(answer(forks.find('GET', '/a/b/f')), ['/:y/:z/f', { y: 'a', z: 'b' }]);
    assert.deepEqual(answer(forks.find('GET', '/a/b/g')), [404, []]);
  });

  it('decodes parameters once', () => {
    assert.deepEqual(answer(router.find('POST', '/topics/%25%32%35')), ['/topics/:topic', { topic: '%25' }]);
    assert.deepEqual(answer(router.find('POST', '/topics/%C3%A9')), ['/topics/:topic', { topic: 'é' }]);
    assert.deepEqual(answer(router.find('POST', '/topics/a+b')), ['/topics/:topic', { topic: 'a+b' }]);
  });

  it('never matches an empty segment with a parameter', () => {
    assert.deepEqual(answer(router.find('POST', '/topics/')), [404, []]);
    assert.deepEqual(answer(router.find('GET', '/a//c')), [404, []]);
  });

  it('throws a TypeError for a route that cannot be added', () => {
    const refused: [string, string, RegExp][] = [
      ['GET', 'topics', /`pattern` must begin with "\/", got "topics"/],
      ['GET', '', /`pattern` must begin with "\/"/],
      ['GET', '/a/:', /"\/a\/:" has no name/],
      ['GET', '/topics/:name/x', /":name" of "\/topics\/:name\/x" is ":topic" in another pattern/],
      ['POST', '/topics/:topic', /POST \/topics\/:topic is stored already/],
      ['GET', '/x/:twice/:twice', /":twice" occurs twice in "\/x\/:twice\/:twice"/],
    ];
    for (const [method, pattern, message] of refused) {
      assert.throws(() => router.add(method, pattern, ''), { name: 'TypeError', message });
    }
  });
});

describe('trap 17: targets that crash other parsers', () => {
  const router = routing('GET /', 'GET /a/:b', 'GET /topics/:__proto__', 'GET /:constructor/:toString/x');

  it('answers 404 or 400 to a target that is no path', () => {
    for (const target of ['//[', '//', '///', '/a//', '/\\', '/a/b/c']) {
      assert.equal(router.find('GET', target).status, 404, target);
    }
    for (const target of ['*', '', '?', '#', 'ftp://other/a/b', 'a/b', 'localhost:80', '[', '%']) {
      assert.deepEqual(answer(router.find('GET', target)), [400, []], target);
    }
  });

  it('takes the path of a target in absolute form', () => {
    assert.deepEqual(answer(router.find('GET', 'http://other/a/b?c')), ['/a/:b', { b: 'b' }]);
    assert.deepEqual(answer(router.find('GET', 'http://other')), ['/', {}]);
  });

  it('answers 400 to a segment that is not UTF-8', () => {
    for (const part of ['%', '%f', '%ff', '%c3', '%zz', '%ed%a0%80']) {
      assert.deepEqual(answer(router.find('GET', `/a/${part}`)), [400, []], part);
    }
  });

  it('gives dots and an encoded slash no special meaning', () => {
    assert.deepEqual(answer(router.find('GET', '/a/..')), ['/a/:b', { b: '..' }]);
    assert.deepEqual(answer(router.find('GET', '/a/%2e%2e')), ['/a/:b', { b: '..' }]);
    assert.deepEqual(answer(router.find('GET', '/a/%2e%2e/b')), [404, []]);
    assert.deepEqual(answer(router.find('GET', '/x/../a/b')), [404, []]);
    assert.deepEqual(answer(router.find('GET', '/a%2fb')), [404, []]);
    assert.deepEqual(answer(router.find('GET', '/a/b%2Fc')), ['/a/:b', { b: 'b/c' }]);
  });

  it('gives no parameters but those of the pattern', () => {
    const found = router.find('GET', '/a/__proto__');
    assert.ok(found.status === 200);
    assert.equal(found.params.b, '__proto__');
    for (const name of ['constructor', 'toString', '__proto__', 'hasOwnProperty']) {
      assert.equal(found.params[name], undefined, name);
    }
  });

  it('allows any name for a parameter', () => {
    const found = router.find('GET', '/topics/value');
    assert.ok(found.status === 200);
    assert.equal(Object.getOwnPropertyDescriptor(found.params, '__proto__')?.value, 'value');
    assert.deepEqual(answer(router.find('GET', '/a/b/x')), [
      '/:constructor/:toString/x',
      { constructor: 'a', toString: 'b' },
    ]);
    assert.deepEqual(answer(router.find('__proto__', '/')), [405, ['GET', 'HEAD']]);
  });

  const piece = fc.oneof(
    fc.constantFrom(
      '/',
      '//',
      '?',
      '#',
      '%',
      '%f',
      '%ff',
      '%2f',
      '%00',
      '.',
      '..',
      '[',
      ':',
      '*',
      '__proto__',
      'a',
    ),
    fc.constantFrom('topics', 'constructor', 'http://', '\\', '\0', '\ud800', '\ufeff', ' '),
    fc.string({ unit: 'binary', maxLength: 3 }),
  );
  const target = fc.array(piece, { maxLength: 10 }).map((pieces) => pieces.join(''));

  it('never throws, and finds only what matches the pattern: property', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          target,
          target.map((rest) => `/${rest}`),
        ),
        (hostile) => {
          const found = router.find('GET', hostile);
          if (found.status !== 200) return assert.ok(found.status === 400 || found.status === 404);
          // The path is the pattern with its parameters filled in.
          const path = splitTarget(hostile)?.path ?? '';
          const parts = found.pattern.split('/');
          const names = parts.filter((part) => part.startsWith(':')).map((part) => part.slice(1));
          assert.deepEqual(Object.keys(found.params).sort(), names.sort());
          const put = (part: string) => (part.startsWith(':') ? found.params[part.slice(1)] : part);
          assert.deepEqual(path.split('/').map(decodeURIComponent), parts.map(put));
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('decodes any text that was encoded into a segment: property', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), (text) => {
        assert.deepEqual(answer(router.find('GET', `/a/${encodeURIComponent(text)}`)), [
          '/a/:b',
          { b: text },
        ]);
      }),
    );
  });

  it('answers such targets when they arrive over node:http', async (t) => {
    const server = createServer((req, res) => {
      res.end(`status ${router.find(req.method ?? '', req.url ?? '').status};`);
    });
    const port = await listen(t, server);
    const expected: [string, number][] = [
      ['//[', 404],
      ['/a/%', 400],
      ['/a/%ff', 400],
      ['*', 400],
      ['http://other/a/b', 200],
      ['/a/%2e%2e', 200],
    ];
    for (const [hostile, status] of expected) {
      const client = await dial(t, port);
      await ask(client, `GET ${hostile} HTTP/1.1`).until(`status ${status};`);
    }
  });
});
