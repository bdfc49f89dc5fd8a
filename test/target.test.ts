import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { splitTarget } from '../lib/target.ts';

describe('splitTarget', () => {
  for (const [target, ...parts] of [
    ['/', undefined, '/', ''],
    ['/a/b?c=d?e#f', undefined, '/a/b', 'c=d?e'],
    ['/a#b?c', undefined, '/a', ''],
    ['//[', undefined, '//[', ''],
    ['/http://a/b', undefined, '/http://a/b', ''],
    ['http://A.Example:80/b?c', 'a.example:80', '/b', 'c'],
    ['HTTPS://[::1]/', '[::1]', '/', ''],
    ['http://a', 'a', '/', ''],
    ['http://a?b', 'a', '/', 'b'],
    ['http://a@b/c', 'a@b', '/c', ''],
  ] as const) {
    it(`splits ${target}`, () => {
      const [authority, path, query] = parts;
      assert.deepEqual(splitTarget(target), { authority, path, query });
    });
  }

  for (const target of ['*', '', undefined, 'a', 'a:443', 'http://', 'http:///a', 'ftp://a/b', 'http:a'])
    it(`finds no path in ${JSON.stringify(target)}`, () => assert.equal(splitTarget(target), undefined));
});
