// The recipes as documents: their types, and that each is in the index with the versions that run here.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type Example, examplesOf, here, typeErrorsIn } from '../../helpers/docs.ts';
import { makeProject, recipes } from './host.ts';

const index = readFileSync(new URL('README.md', recipes), 'utf8');
const [, hosts = ''] = /<!-- hosts -->\n((?:\|.*\n)+)/.exec(index) ?? [];
const linksIn = (text: string): string[] => [
  ...new Set(Array.from(text.matchAll(/\]\(([\w-]+\.md)\)/g), ([, page = '']) => page)),
];
/** The pages of the table: their programs run here. */
const pages = linksIn(hosts);
const manifest = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8'));

/** Every program of the recipes, by the name of its file. */
const programs = new Map(
  pages.flatMap((page) => {
    const examples = [...examplesOf(new URL(page, recipes))].filter(([, { language }]) => language === 'ts');
    return examples.map(([name, example]): [string, Example] => [
      `${page.replace(/\.md$/, '')}/${name}`,
      example,
    ]);
  }),
);

/** Programs with types of their own, of another runtime or checked where their framework builds them. */
const APART = /^(bun|deno|next|nitro|react-router)\//;

describe('the recipes', () => {
  const folder = makeProject();
  after(() => rmSync(folder, { recursive: true, force: true }));

  const errorsIn = (files: readonly string[], options: object = {}): Promise<string> =>
    typeErrorsIn(join(folder, 'tsconfig.json'), files, { experimentalDecorators: true, ...options });

  function write(name: string): string {
    const file = join(folder, `${name.replace('/', '-')}.ts`);
    writeFileSync(file, here(programs.get(name)!.code));
    return file;
  }

  it('compile under `strict`', { timeout: 120_000 }, async () => {
    const files = [...programs.keys()].filter((name) => !APART.test(name)).map(write);
    assert.equal(await errorsIn(files), '');
  });

  it('compile under `strict` with the types of Bun and of Deno', { timeout: 120_000 }, async () => {
    const bun = await errorsIn([write('bun/bun')], { types: ['bun'], typeRoots: undefined });
    // Of the recipe alone: a project gets declarations, not the source of the library.
    assert.deepEqual(bun.match(/^.*bun-bun\.ts.*$/gm), null);
    const deno = fileURLToPath(new URL('node_modules/.bin/deno', import.meta.url));
    // Apart from the types of Node that npm has installed: Deno has its own.
    const alone = mkdtempSync(join(tmpdir(), 'sluice-deno-'));
    renameSync(write('deno/deno'), join(alone, 'server.ts'));
    try {
      await promisify(execFile)(deno, ['check', 'server.ts'], { cwd: alone });
    } finally {
      rmSync(alone, { recursive: true });
    }
  });

  it('compile under `strict` with the types of Express 4', { timeout: 120_000 }, async () => {
    const types = fileURLToPath(new URL('node_modules/@types/express4', import.meta.url));
    const core = join(types, 'node_modules/@types/express-serve-static-core');
    const paths = { express: [types], 'express-serve-static-core': [core] };
    const files = [...programs.keys()].filter(
      (name) => name.includes('express/') || name.endsWith('/express'),
    );
    const written = files.map((name) => join(folder, `${name.replace('/', '-')}.ts`));
    assert.equal(await errorsIn(written, { paths }), '');
  });

  it('all run in the suite', () => {
    const tests = readdirSync(new URL('.', import.meta.url)).filter((name) => name.endsWith('.test.ts'));
    const sources = tests.map((name) => readFileSync(new URL(name, import.meta.url), 'utf8')).join('\n');
    for (const name of programs.keys()) {
      const [page, example] = name.split('/');
      assert.ok(sources.includes(`page: '${page}', example: '${example}'`), `${name} runs in no test`);
    }
  });

  it('are in the index, with the versions that run here', () => {
    const all = readdirSync(recipes).filter((name) => name.endsWith('.md') && name !== 'README.md');
    assert.deepEqual(linksIn(index).sort(), all.sort());
    const named = Array.from(hosts.matchAll(/\| `([\w@/-]+)` ((?:\d+\.\d+\.\d+(?:, )?)+) \|/g));
    assert.ok(named.length > 0);
    for (const [, name = '', versions = ''] of named)
      assert.deepEqual(versions.split(', '), versionsOf(name), name);
  });
});

/** The versions of a package in the manifest, under its own name and others. */
function versionsOf(name: string): string[] {
  return Object.entries<string>(manifest.dependencies).flatMap(([alias, version]) => {
    if (alias === name) return [version];
    return version.startsWith(`npm:${name}@`) ? [version.slice(`npm:${name}@`.length)] : [];
  });
}
