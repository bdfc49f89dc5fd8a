import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { Script } from 'node:vm';
import { contentSecurityPolicy, page } from '../../lib/dashboard/dashboard.ts';

// As a browser finds them: between the first opening tag and the first closing one.
function contents(tag: string): string[] {
  return [...page.matchAll(new RegExp(`<${tag}[^>]*>(.*?)</${tag}>`, 'gs'))].map((found) => found[1]!);
}

function directive(name: string): string | undefined {
  const all = contentSecurityPolicy.split('; ').map((part) => part.split(' '));
  return all
    .find(([first]) => first === name)
    ?.slice(1)
    .join(' ');
}

const hash = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

describe('page', () => {
  it('has one script and one style, which its policy admits by their hashes and by nothing else', () => {
    const [script, ...otherScripts] = contents('script');
    const [style, ...otherStyles] = contents('style');
    assert.deepEqual([otherScripts, otherStyles], [[], []]);
    assert.equal(directive('script-src'), hash(script!));
    assert.equal(directive('style-src'), hash(style!));
    assert.equal(directive('default-src'), "'none'");
    assert.equal(directive('connect-src'), "'self'");
    assert.doesNotMatch(contentSecurityPolicy, /unsafe|\*|https?:/);
  });

  it('is a header value', () => {
    assert.match(contentSecurityPolicy, /^[\x21-\x7e]+( [\x21-\x7e]+)*$/);
  });

  it('has nothing in it that the policy would stop', () => {
    const markup = page.replace(/<(script|style)>.*?<\/\1>/gs, '');
    assert.doesNotMatch(markup, /\son[a-z]+=|\sstyle=|javascript:/i);
  });

  it('asks for nothing from elsewhere', () => {
    const named = [...page.matchAll(/(?:https?:)?\/\/[a-z0-9.-]+\.[a-z]+[^\s'"]*/gi)].map(([url]) => url);
    assert.deepEqual([...new Set(named)], ['http://www.w3.org/2000/svg']); // a namespace, never fetched
    for (const [, address] of page.matchAll(/\s(?:src|href)="([^"]*)"/g)) assert.match(address!, /^data:/);
    assert.doesNotMatch(contents('style')[0]!, /url\(|@import/);
  });

  it('never makes markup or code of a string', () => {
    const script = contents('script')[0]!;
    const sinks = /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(|srcdoc/;
    assert.doesNotMatch(script, sinks);
    assert.equal(directive('require-trusted-types-for'), "'script'");
    assert.equal(directive('trusted-types'), "'none'");
  });

  it('has a script that parses and that no comment or tag inside cuts short', () => {
    const script = contents('script')[0]!;
    assert.ok(new Script(script));
    assert.match(script.trimEnd(), /\}\)\(\);$/);
    assert.doesNotMatch(script, /<!--|<\/?script/i);
  });

  it('uses no id that is not there, and no id twice', () => {
    const ids = [...page.matchAll(/\sid="([^"]+)"/g)].map((found) => found[1]!);
    assert.deepEqual(ids, [...new Set(ids)]);
    for (const [, id] of page.matchAll(/\$\('([^']+)'\)/g)) assert.ok(ids.includes(id!), id);
    for (const [, id] of page.matchAll(/(?:labelledby|list|for)="([^"]+)"/g))
      assert.ok(ids.includes(id!), id);
  });

  it('names every field for those who cannot see it', () => {
    const fields = [...page.matchAll(/<(?:input|textarea)[^>]*>/g)];
    assert.ok(fields.length >= 8);
    for (const { 0: field, index } of fields) {
      const before = page.slice(0, index);
      const isInLabel = before.lastIndexOf('<label') > before.lastIndexOf('</label>');
      assert.ok(isInLabel || field.includes('aria-label='), field);
    }
  });

  it('works below any path', () => {
    for (const [, address] of page.matchAll(/(?:fetch|EventSource|new URL)\('([^']*)'/g)) {
      assert.doesNotMatch(address!, /^\//, 'relative to the page');
    }
  });
});
