import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

// The floors. A file imports from `node:` and from the floors below its own. A new file needs a place here.
const FLOORS = [
  [
    ['encode', 'decode', 'replay', 'writer', 'limiter', 'heartbeat', 'adaptive', 'compose', 'guard', 'cors'],
    ['router', 'metrics', 'shutdown', 'gzip', 'auth', 'once', 'body', 'lines', 'options', 'system', 'page'],
    ['transport'],
  ].flat(),
  ['stream', 'hub', 'client', 'leader', 'follow', 'instruments', 'sqlite', 'redis'],
  ['server', 'eventsource', 'tail', 'publish'],
  ['serve'],
  ['cli', 'index'],
  // The program itself: it runs the door below it, and is the only file that acts when it is imported.
  ['bin'],
];

const STRICT_FLAGS = [
  'strict',
  'erasableSyntaxOnly',
  'isolatedDeclarations',
  'verbatimModuleSyntax',
  'rewriteRelativeImportExtensions',
  'exactOptionalPropertyTypes',
  'noUncheckedIndexedAccess',
];

const root = fileURLToPath(new URL('..', import.meta.url));
const modules = readdirSync(join(root, 'lib'), { withFileTypes: true }).map((entry) => ({
  file: entry.name,
  name: entry.name.replace(/\.ts$/, ''),
  source: entry.isFile() ? readFileSync(join(root, 'lib', entry.name), 'utf8') : '',
}));

const floorOf = (name: string): number => FLOORS.findIndex((floor) => floor.includes(name));

// Biome begins every top-level statement in the first column, and no line of a comment there.
const STATEMENT = /^(?:import|export)\b[^'";]*?\bfrom\s*['"]([^'"]+)['"]|^import\s*['"]([^'"]+)['"]/gm;
const EXPRESSION = /\b(?:import|require|getBuiltinModule)\(\s*['"]([^'"]+)['"]/g;

function importsOf(source: string): string[] {
  const found = [...source.matchAll(STATEMENT), ...source.matchAll(EXPRESSION)];
  return [...new Set(found.map(([, from, bare]) => (from ?? bare) as string))];
}

function siblingsOf(name: string): string[] {
  const source = modules.find((module) => module.name === name)?.source;
  assert.ok(source !== undefined, `lib/${name}.ts is imported and does not exist`);
  return importsOf(source)
    .filter((specifier) => specifier.startsWith('.'))
    .map((specifier) => specifier.replace(/^\.\/|\.ts$/g, ''));
}

function needsOf(name: string, met: Set<string> = new Set([name])): Set<string> {
  for (const sibling of siblingsOf(name)) {
    if (met.has(sibling)) continue;
    met.add(sibling);
    needsOf(sibling, met);
  }
  return met;
}

/** The comment at the top of a module, its first line and the rest, without a `#!` line. */
function introductionOf(source: string): { does: string; needs: string } {
  const lines = source.replace(/^#!.*\n/, '').split('\n');
  const end = lines.findIndex((line) => !line.startsWith('//'));
  const [does = '', ...rest] = lines.slice(0, end).map((line) => line.replace(/^\/\/ ?/, ''));
  return { does, needs: rest.join(' ') };
}

describe('the reading of imports, on which all below depends', () => {
  it('sees every form of import, and none in comments', () => {
    const source = [
      "import { a } from './a.ts';",
      "import type { B } from './b.ts';",
      "import {\n  c,\n  type D,\n} from './c.ts';",
      "import './d.ts';",
      "export * from './e.ts';",
      "export { f } from './f.ts';",
      "  const g = await import('./g.ts');",
      "const h = process.getBuiltinModule('node:h');",
      "type I = import('./i.ts').I;",
      "// import { x } from './comment.ts';",
      " * import { x } from './comment.ts';",
      "export const from = 'elsewhere';",
    ].join('\n');
    const expected = [
      './a.ts',
      './b.ts',
      './c.ts',
      './d.ts',
      './e.ts',
      './f.ts',
      './g.ts',
      'node:h',
      './i.ts',
    ];
    assert.deepEqual(importsOf(source).sort(), expected.sort());
  });
});

describe('the house', () => {
  it('is one flat street of TypeScript files', () => {
    for (const { file, source } of modules) assert.ok(file.endsWith('.ts') && source !== '', `lib/${file}`);
  });

  it('has no runtime dependencies of any kind', () => {
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    const kinds = Object.keys(manifest).filter((key) => /dependencies$/i.test(key));
    assert.deepEqual(kinds, ['devDependencies']);
  });

  it('compiles with every flag that keeps a copied file erasable and strict', () => {
    const { compilerOptions } = readConfig();
    for (const flag of STRICT_FLAGS) assert.equal(compilerOptions[flag], true, flag);
  });

  for (const { name, file, source } of modules) {
    describe(`lib/${file}`, () => {
      it('has a floor', () => {
        assert.notEqual(floorOf(name), -1, `give lib/${file} a floor, in the table of this test`);
      });

      it('imports only from node: and from lower floors', () => {
        for (const specifier of importsOf(source)) {
          if (specifier.startsWith('node:')) continue;
          assert.match(specifier, /^\.\/[a-z0-9]+\.ts$/, `${specifier} is neither node: nor ./name.ts`);
          const below = floorOf(specifier.slice(2, -3));
          assert.ok(
            below !== -1 && below < floorOf(name),
            `${specifier} is not below floor ${floorOf(name)}`,
          );
        }
      });

      it('says in its first line what it does, and then exactly which siblings it needs', () => {
        const { does, needs } = introductionOf(source);
        assert.match(does, /^[A-Z].+\.$/);
        const siblings = siblingsOf(name).sort();
        if (siblings.length === 0) return assert.match(needs, /^Stands alone: copy this file by itself\./);
        const [, named = ''] = needs.match(/^Needs (.+) beside it\./) ?? [];
        const files = [...named.matchAll(/`([a-z0-9]+)\.ts`/g)].map(([, sibling]) => sibling);
        assert.deepEqual(files.sort(), siblings, `second line: ${needs}`);
      });

      it('asks what an object can do, never whether it is a class of node:http', () => {
        const classes =
          /instanceof\s+(?:\w+\.)?(?:ServerResponse|IncomingMessage|OutgoingMessage|Http2\w+)\b/;
        assert.doesNotMatch(source, classes);
      });
    });
  }
});

// Imports each file both ways. `require` compiles to CommonJS, in which a top-level await cannot be said.
const IMPORTER = `
  const tsx = require('tsx/cjs/api');
  const { pathToFileURL } = require('node:url');
  (async () => {
    for (const file of process.argv.slice(1)) {
      try {
        await import(pathToFileURL(file));
        tsx.require(file, file);
      } catch (error) {
        process.exitCode = 1;
        console.log(file + ': ' + error.message);
      }
    }
  })();
`;

describe('each module, copied with what it needs into an empty folder', () => {
  const street = mkdtempSync(join(tmpdir(), 'sluice-house-'));
  after(() => rmSync(street, { recursive: true, force: true }));
  for (const { name } of modules) copyWithNeeds(street, name);
  writeFileSync(join(street, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(street, 'tsconfig.json'), JSON.stringify(configFor(street)));

  it('type-checks', async () => {
    await run([join(root, 'node_modules/typescript/bin/tsc'), '-p', street]);
  });

  it('imports, by import and by require', async () => {
    const files = modules.filter(({ name }) => name !== 'bin');
    const paths = files.map(({ name, file }) => join(street, name, file));
    await run(['--import', import.meta.resolve('tsx'), '--eval', IMPORTER, '--', ...paths]);
  });
});

function copyWithNeeds(street: string, name: string): void {
  mkdirSync(join(street, name));
  for (const file of needsOf(name))
    copyFileSync(join(root, 'lib', `${file}.ts`), join(street, name, `${file}.ts`));
}

function readConfig(): { compilerOptions: Record<string, unknown> } {
  return JSON.parse(readFileSync(join(root, 'tsconfig.json'), 'utf8'));
}

function configFor(street: string): object {
  const { compilerOptions } = readConfig();
  const typeRoots = [join(root, 'node_modules/@types')];
  return { compilerOptions: { ...compilerOptions, rootDir: street, typeRoots }, include: ['*/*.ts'] };
}

async function run(args: string[]): Promise<void> {
  // The child must not take itself for a part of this test run.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const child = promisify(execFile)(process.execPath, args, { cwd: root, env });
  await child.catch((error) => assert.fail(`${error.stdout}${error.stderr}`));
}
