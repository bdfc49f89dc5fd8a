import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, before, describe, it } from 'node:test';
import { serveDashboard } from '../../lib/dashboard/dashboard.ts';
import { listen } from '../helpers/server.ts';
import { generate, generatedFile, generatedModules } from './generate.ts';

const folder = new URL('../../lib/dashboard/', import.meta.url);
const read = (name: string): string => readFileSync(new URL(name, folder), 'utf8');
const namesOf = (extension: string): string[] =>
  readdirSync(folder).filter((name) => name.endsWith(extension));

const page = read('index.html');
const scripts = namesOf('.js').map((name) => ({ name, source: read(name) }));
const styles = namesOf('.css').map((name) => ({ name, source: read(name) }));
// What people wrote.
const written = scripts.filter(({ name }) => !generatedModules.some((module) => name === `${module}.js`));

let at: string;
const cleanups: (() => unknown)[] = [];
before(async () => {
  // Below a path, as an application may serve it.
  const server = createServer((req, res) => {
    const [, file] = /^\/admin\/live\/(?:dashboard\/(.*))?$/.exec(req.url ?? '') ?? [];
    if (!serveDashboard({ req, res }, file)) res.writeHead(404).end();
  });
  at = `http://127.0.0.1:${await listen({ after: (done) => cleanups.push(done) }, server)}/admin/live/`;
});
after(() => Promise.all(cleanups.map((cleanup) => cleanup())));

/** What the page loads, and what that loads in turn: every address, resolved as a browser does. */
async function loadedFrom(
  url: string,
  met: Map<string, Response> = new Map(),
): Promise<Map<string, Response>> {
  if (met.has(url)) return met;
  const response = await fetch(url);
  met.set(url, response);
  const text = await response.clone().text();
  const references = url.endsWith('.js')
    ? text.matchAll(/^(?:import|export)\b[^'";]*?\bfrom\s*'([^']+)'/gm)
    : text.matchAll(/\s(?:src|href)="([^"]*)"/g);
  for (const [, reference] of references) await loadedFrom(new URL(reference!, url).href, met);
  return met;
}

describe('serveDashboard', () => {
  it('serves the page and every file that it loads, with its type, below any path', async () => {
    const loaded = await loadedFrom(at);
    const types = Object.fromEntries(
      [...loaded].map(([url, { headers }]) => [url.slice(at.length), headers.get('content-type')]),
    );
    const expected = [
      ['', 'text/html; charset=utf-8'],
      ...styles.map(({ name }) => [`dashboard/${name}`, 'text/css; charset=utf-8']),
      ...scripts.map(({ name }) => [`dashboard/${name}`, 'text/javascript; charset=utf-8']),
      ['dashboard/icon.svg', 'image/svg+xml'],
    ];
    assert.deepEqual(types, Object.fromEntries(expected));
    for (const [url, response] of loaded) assert.equal(response.status, 200, url);
  });

  it('serves each file unchanged', async () => {
    for (const [url, response] of await loadedFrom(at)) {
      assert.equal(
        await response.text(),
        read(url === at ? 'index.html' : url.slice(`${at}dashboard/`.length)),
      );
    }
  });

  for (const file of ['dashboard.ts', 'dashboard.js', 'index.html', 'tsconfig.json', '', '../protocol.ts']) {
    it(`sends nothing for "${file}" and returns false`, () => {
      const res = {
        writeHead: () => assert.fail('a head was sent'),
        end: () => assert.fail('a body was sent'),
      };
      assert.equal(serveDashboard({ req: { headers: {} }, res }, file), false);
    });
  }

  it('answers 304 while the client has the current file', async () => {
    const etag = (await fetch(at)).headers.get('etag')!;
    const same = await fetch(at, { headers: { 'if-none-match': `W/"other", ${etag}` } });
    assert.deepEqual([same.status, same.headers.get('etag'), await same.text()], [304, etag, '']);
    const changed = await fetch(at, { headers: { 'if-none-match': '"other"' } });
    assert.deepEqual([changed.status, changed.headers.get('cache-control')], [200, 'no-cache']);
  });

  it('answers HEAD with the headers of the page and no body', async () => {
    const response = await fetch(at, { method: 'HEAD' });
    assert.equal(response.headers.get('content-length'), String(Buffer.byteLength(page)));
    assert.equal(await response.text(), '');
  });
});

describe('the Content-Security-Policy of the dashboard', () => {
  it('allows scripts, styles, images and connections from the server alone', async () => {
    for (const [url, { headers }] of await loadedFrom(at)) {
      const policy = headers.get('content-security-policy') ?? '';
      const directives = Object.fromEntries(policy.split('; ').map((part) => part.split(/ (.*)/, 2)));
      const expected = {
        'default-src': "'none'",
        'script-src': "'self'",
        'style-src': "'self'",
        'img-src': "'self'",
        'connect-src': "'self'",
        'base-uri': "'none'",
        'form-action': "'none'",
        'frame-ancestors': "'none'",
        'require-trusted-types-for': "'script'",
        'trusted-types': "'none'",
      };
      assert.deepEqual(directives, expected, url);
      assert.equal(headers.get('x-content-type-options'), 'nosniff');
      assert.equal(headers.get('referrer-policy'), 'no-referrer');
    }
  });

  it('blocks nothing in the page: there is no inline script, style or handler', () => {
    assert.doesNotMatch(page, /\son[a-z]+=|\sstyle=|<style|javascript:/i);
    assert.doesNotMatch(page, /<script(?![^>]*\ssrc=)/i);
    assert.doesNotMatch(page, /<script[^>]*>[^<]/i);
  });

  it('blocks no request: nothing is loaded from another origin', () => {
    const texts = [page, ...scripts.map(({ source }) => source), ...styles.map(({ source }) => source)];
    const named = texts.flatMap((text) => text.match(/(?:https?:)?\/\/[a-z0-9.-]+\.[a-z]+[^\s'"]*/gi) ?? []);
    assert.deepEqual([...new Set(named)], ['http://www.w3.org/2000/svg']); // A namespace: never fetched.
    for (const { name, source } of styles) assert.doesNotMatch(source, /url\(|@import/, name);
  });

  it('blocks no statement: no script makes markup or code from a string', () => {
    const sinks =
      /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(|srcdoc|import\(|cssText|'style'/;
    for (const { name, source } of scripts) assert.doesNotMatch(source, sinks, name);
  });
});

describe('the page of the dashboard', () => {
  const ids = [...page.matchAll(/\sid="([^"]+)"/g)].map(([, id]) => id!);

  it('has every element that the scripts look up, and no id twice', () => {
    assert.deepEqual(ids, [...new Set(ids)]);
    const lookups = written.flatMap(({ source }) => [
      ...source.matchAll(/\b(?:element|input|button|form|selection)\('([^']+)'\)/g),
    ]);
    assert.ok(lookups.length > 30);
    for (const [lookup, id] of lookups) assert.ok(ids.includes(id!), lookup);
    for (const [reference, id] of page.matchAll(/(?:labelledby|list|for)="([^"]+)"/g))
      assert.ok(ids.includes(id!), reference);
  });

  it('names every field for screen readers', () => {
    const fields = [...page.matchAll(/<(?:input|select|textarea)[^>]*>/g)];
    assert.ok(fields.length >= 8);
    for (const { 0: field, index } of fields) {
      const before = page.slice(0, index);
      const isInLabel = before.lastIndexOf('<label') > before.lastIndexOf('</label');
      assert.ok(isInLabel || field.includes('aria-label='), field);
    }
  });

  it('requests only paths that are relative to it', () => {
    const calls = written.flatMap(({ source }) => [
      ...source.matchAll(/\b(?:fetch|ask|readStream|new URL)\((['`])([^'`]*)\1/g),
    ]);
    const paths = calls.map(([, , path]) => path!);
    assert.ok(paths.length >= 5);
    for (const path of paths) assert.match(path, /^(?:(?:events|topics|position|metrics|tickets)\b|\.$)/);
  });
});

describe('the generated modules of the dashboard', () => {
  for (const name of generatedModules) {
    it(`are what \`npm run generate\` makes now: ${name}.js of lib/${name}.ts`, () => {
      assert.equal(readFileSync(generatedFile(name), 'utf8'), generate(name));
    });
  }

  it('are the only files of the dashboard that know the form of ids, control events and topics', () => {
    for (const { name, source } of [...written, { name: 'index.html', source: page }]) {
      assert.doesNotMatch(source, /sluice:|\\d|\[0-9\]|A-Za-z0-9|split\('-'\)|maxlength|pattern=/, name);
    }
  });
});
