import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, posix } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { filesWith, importsOf } from '../lib/command/copy-library.ts';
import * as index from '../lib/index.ts';

// Modules of the street that are no export of the package: `index` is its root, the others are parts of
// `hub`, `client`, `stream`, `generations`, `sqlite`, `redis`, `processes`, `testing` and the reference server.
const NOT_EXPORTED = [
  ...[
    'index',
    'browser',
    'backpressure',
    'cursors',
    'delivery',
    'history',
    'hub-event',
    'newest',
    'names',
    'silence',
    'order',
    'pages',
    'history-limits',
    'queue',
    'controls',
    'staging',
    'publisher',
    'follower',
    'arrivals',
  ],
  ...[
    'topics',
    'permissions',
    'server-description',
    'recent',
    'backoff',
    'chunked',
    'source',
    'decode-bytes',
  ],
  ...['received', 'request', 'refusal', 'failure', 'waits', 'connect-options'],
  ...['generation', 'local-reader', 'notices'],
  ...['log-intake', 'log-rules', 'log-rules-hub', 'log-rules-own', 'log-rules-shared', 'log-trial'],
  ...['sqlite-file', 'sqlite-retention'],
  ...[
    'redis-wire',
    'redis-line',
    'redis-client',
    'redis-message',
    'redis-lua',
    'redis-script',
    'redis-store',
  ],
  ...[
    'redis-appends',
    'redis-connections',
    'redis-follower',
    'redis-reader',
    'redis-replicas',
    'redis-verify',
  ],
  ...['log-link', 'log-owner', 'log-peers', 'log-wire'],
  ...[
    'chaos-proxy',
    'checker',
    'collect',
    'fake-clock',
    'findings',
    'ledger',
    'memory-server',
    'ranges',
    'raw-reader',
    'socket-pair',
  ],
];

// The folders of what is not copied, and which module of the street may import from each.
const YARDS = new Map([
  ['command', undefined],
  ['dashboard', 'server.ts'],
]);

const MOST_LINES = 600;
const REASON = /\bOver 600 lines because \w/;
const MOST_ROOT_VALUES = 30;

// May write the control events' names and the form of an id; the second is generated from the first.
const PROTOCOL = ['protocol.ts', 'dashboard/protocol.js'];

const STRICT_FLAGS = [
  'strict',
  'erasableSyntaxOnly',
  'isolatedDeclarations',
  'verbatimModuleSyntax',
  'rewriteRelativeImportExtensions',
  'exactOptionalPropertyTypes',
  'noUncheckedIndexedAccess',
];

// Projects into which modules are copied have a `lib` and a `target` of their own: these are the oldest ones
// that we support.
const OLDEST_LIB = 'es2022';
const OLDEST_TARGET = 'es2021';
const COMPILED = 'compiled';

const root = fileURLToPath(new URL('..', import.meta.url));

/** A file of lib/ with code in it, by its path there: `hub.ts`, `command/bin.ts`, `dashboard/app.js`. */
interface SourceFile {
  readonly path: string;
  readonly source: string;
  /** Paths in lib/ of the files that it imports. */
  readonly siblings: readonly string[];
}

const files = new Map(readFiles().map((file) => [file.path, file]));
const street = [...files.values()].filter(({ path }) => !path.includes('/'));
const yards = [...files.values()].filter(({ path }) => path.includes('/'));

function readFiles(): SourceFile[] {
  return readdirSync(join(root, 'lib'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.[jt]s$/.test(entry.name))
    .map((entry) => {
      const path = posix.join(
        entry.parentPath.slice(join(root, 'lib').length).replaceAll('\\', '/').slice(1),
        entry.name,
      );
      const source = readFileSync(join(root, 'lib', path), 'utf8');
      const siblings = importsOf(source)
        .filter((specifier) => specifier.startsWith('.'))
        .map((specifier) => posix.join(dirname(path), specifier));
      return { path, source, siblings };
    })
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

const nameOf = (path: string): string => path.replace(/\.ts$/, '');

describe('the reader of sources, on which the tests below depend', () => {
  it('finds every form of import, and none in comments', () => {
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
    const expected = ['a.ts', 'b.ts', 'c.ts', 'd.ts', 'e.ts', 'f.ts', 'g.ts', 'i.ts'].map(
      (file) => `./${file}`,
    );
    assert.deepEqual(importsOf(source).sort(), [...expected, 'node:h'].sort());
  });

  it('drops comments, and keeps strings, templates and patterns that look like them', () => {
    const code = [
      "const a = 'http://a';",
      'const b = `/* b */`;',
      'const c = /["\'`/*]/;',
      'const d = 6 / 2;',
    ];
    const source = [code[0], `${code[1]} // b`, '/** "c" */', code[2], " /* it's */", `${code[3]} // it's`];
    assert.deepEqual(
      withoutComments(source.join('\n'))
        .split(/\s*(?:\n\s*|$)/)
        .filter(Boolean),
      code,
    );
  });

  it('recognises the form of an id, however it is written', () => {
    for (const pattern of [
      '^(\\d{1,15})-(\\d{1,15})$',
      '^\\d+-\\d+',
      '(0|[1-9]\\d{0,15})-(0|[1-9]\\d{0,15})',
      '[0-9]+-[0-9]+',
    ])
      assert.match(pattern, ID_PATTERN);
    for (const pattern of ['[a-z0-9._-]+', '^\\d+$', '\\d+\\.\\d+', '[A-Z0-9-]\\d'])
      assert.doesNotMatch(pattern, ID_PATTERN);
  });
});

describe('lib/', () => {
  it('is a street of TypeScript files and two yards', () => {
    const entries = readdirSync(join(root, 'lib'), { withFileTypes: true });
    const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
    assert.deepEqual(folders.sort(), [...YARDS.keys()]);
    assertEach(street, ({ path }) =>
      /^[a-z][a-z0-9-]*\.ts$/.test(path) ? undefined : 'is no name for a module',
    );
  });

  it('is laid out in the floors that docs/architecture.md states', () => {
    const floors = street.map(({ path }) => [nameOf(path), floorOf(path)] as const);
    const [stated, actual] = [new Map(documentedFloors()), new Map(floors)];
    const faults = [...new Set([...actual.keys(), ...stated.keys()])]
      .filter((name) => actual.get(name) !== stated.get(name))
      .map(
        (name) =>
          `\`${name}\`: floor ${stated.get(name) ?? '–'} in the table, ${actual.get(name) ?? '–'} in lib/`,
      );
    assertNone(faults, `The rows for the table that follow from the imports of lib/:\n${rowsOf(floors)}`);
  });

  it('imports only `node:` and siblings from the street', () => {
    const check = ({ path, source }: SourceFile) =>
      importsOf(source).find((specifier) => !isImportOfStreet(path, specifier));
    assertEach(street, check);
  });

  it('imports only `node:`, files beside it and modules of the street from a yard', () => {
    const check = ({ source }: SourceFile) =>
      importsOf(source).find(
        (specifier) => !/^node:|^\.\/[a-z0-9-]+\.[jt]s$|^\.\.\/[a-z0-9-]+\.ts$/.test(specifier),
      );
    assertEach(yards, check);
  });

  it('says in the first line of each file what the file does', () => {
    const check = ({ source }: SourceFile) =>
      /^[A-Z].+\.$/.test(introductionOf(source).does) ? undefined : introductionOf(source).does;
    assertEach([...street, ...yards], check);
  });

  it('says in the second line of each module exactly which files it needs', () => {
    assertEach(street, wrongNeeds);
    // A file of a yard is not copied, so it need not say it; what it does say is true.
    const sayers = yards.filter(({ source }) =>
      /^(?:Stands alone|Needs `)/.test(introductionOf(source).needs),
    );
    assertEach(sayers, wrongNeeds);
  });

  it(`has no file over ${MOST_LINES} lines without a reason on its second line`, () => {
    const check = ({ source }: SourceFile) => {
      const lines = source.split('\n').length - 1;
      return lines <= MOST_LINES || REASON.test(introductionOf(source).needs) ? undefined : `${lines} lines`;
    };
    assertEach([...files.values()], check);
  });

  it('names control events and the form of an id in protocol.ts alone', () => {
    const elsewhere = [...files.values()].filter(({ path }) => !PROTOCOL.includes(path));
    const check = ({ source }: SourceFile) => {
      const code = withoutComments(source);
      return /['"`]sluice:[a-z]*/.exec(code)?.[0] ?? ID_PATTERN.exec(code)?.[0];
    };
    assertEach(elsewhere, check);
  });

  it('uses no instanceof with the classes of node:http', () => {
    const classes = /instanceof\s+(?:\w+\.)?(?:ServerResponse|IncomingMessage|OutgoingMessage|Http2\w+)\b/;
    assertEach([...files.values()], ({ source }) => withoutComments(source).match(classes)?.[0]);
  });
});

describe('the package', () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

  it('has no runtime dependencies of any kind', () => {
    const kinds = Object.keys(manifest).filter((key) => /dependencies$/i.test(key));
    assert.deepEqual(kinds, ['devDependencies']);
  });

  it('exports each public module of the street by name, and nothing else', () => {
    const names = street.map(({ path }) => nameOf(path)).filter((name) => !NOT_EXPORTED.includes(name));
    const expected = [
      lineOf('.', { browser: targetOf('browser'), ...targetOf('index') }),
      lineOf('./package.json', './package.json'),
      ...names.map((name) => exportLine(`./${name}`, name)),
    ];
    const lines = Object.entries(manifest.exports).map(([key, target]) => lineOf(key, target));
    const missing = expected.filter((line) => !lines.includes(line)).map((line) => `    ${line},`);
    const needless = lines.filter((line) => !expected.includes(line)).map((line) => `    ${line},`);
    if (missing.length > 0) missing.unshift('`exports` of package.json lacks:');
    if (needless.length > 0) needless.unshift('`exports` of package.json has no use for:');
    assertNone([...missing, ...needless]);
  });

  it(`exports at most ${MOST_ROOT_VALUES} values from its root`, () => {
    const values = Object.keys(index);
    assert.ok(values.length <= MOST_ROOT_VALUES, `${values.length} values: ${values.join(' ')}`);
  });

  it('gives browsers a part of its root', async () => {
    const inBrowser = await import('../lib/browser.ts');
    for (const [name, value] of Object.entries(inBrowser))
      assert.equal(value, (index as Record<string, unknown>)[name], name);
  });

  it('compiles with every flag that keeps a copied file erasable and strict', () => {
    const { compilerOptions } = readConfig();
    for (const flag of STRICT_FLAGS) assert.equal(compilerOptions[flag], true, flag);
  });
});

describe('the workflow of GitHub', () => {
  it('calls every stage of .ci/run but `test`, which the stages of each Node replace', () => {
    const run = readFileSync(join(root, '.ci/run'), 'utf8');
    const workflow = readFileSync(join(root, '.github/workflows/ci.yml'), 'utf8');
    const stages = Array.from(run.matchAll(/^run-([a-z0-9-]+)\(\)/gm), ([, stage]) => stage);
    const [, versions = ''] = /^ +node: \[(.+)\]$/m.exec(workflow) ?? [];
    const called = Array.from(workflow.matchAll(/\.ci\/run (.+)$/gm), ([, words = '']) =>
      words.includes('matrix.node')
        ? versions.split(', ').map((version) => `node-${version}`)
        : words.split(' '),
    );
    assert.deepEqual(called.flat().sort(), stages.filter((stage) => stage !== 'test').sort());
  });
});

describe('each module of the street, copied with what it needs into an empty folder', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-house-'));
  before(() => {
    for (const { path } of street) copyWithNeeds(folder, path);
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(configFor(folder)));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it(`type-checks with lib ${OLDEST_LIB}, and runs when compiled to ${OLDEST_TARGET}`, async () => {
    await run([join(root, 'node_modules/typescript/bin/tsc'), '-p', folder]);
    const compiled = join(folder, COMPILED);
    for (const name of ['server', 'index'])
      cpSync(join(root, 'lib/dashboard'), join(compiled, name, 'dashboard'), { recursive: true });
    const copies = street.map(({ path }) => join(compiled, nameOf(path), path.replace(/ts$/, 'js')));
    await run(['--input-type=module', '--eval', USER, '--', ...copies]);
  });

  it('can be imported and required', async () => {
    const copies = street.map(({ path }) => join(folder, nameOf(path), path));
    await run(['--import', import.meta.resolve('tsx'), '--eval', IMPORTER, '--', ...copies]);
  });
});

/** Fails with the faults themselves, one a line, rather than with how they differ from an empty list. */
function assertNone(faults: readonly string[], advice = ''): void {
  if (faults.length > 0) assert.fail([...faults, advice].join('\n'));
}

/** One line for each file in which `check` finds something. */
function assertEach(checked: readonly SourceFile[], check: (file: SourceFile) => string | undefined): void {
  assertNone(
    checked.flatMap((file) => {
      const fault = check(file);
      return fault === undefined ? [] : [`lib/${file.path}: ${fault}`];
    }),
  );
}

function exportLine(key: string, module: string): string {
  return lineOf(key, targetOf(module));
}

function targetOf(module: string): object {
  return { types: `./dist/${module}.d.ts`, default: `./dist/${module}.js` };
}

/** A line of `exports`. The order of the conditions is a part of it: `types` must come before `default`. */
function lineOf(key: string, target: unknown): string {
  const spaced = JSON.stringify(target, null, 1).replace(/\n\s*/g, ' ');
  return `${JSON.stringify(key)}: ${spaced}`;
}

// ── floors ────────────────────────────────────────────────────────────────────────────────────────────────

/** The longest chain of imports below a module. Files of a yard are passed through and add nothing to it. */
function floorOf(path: string, chain: readonly string[] = []): number {
  assert.ok(!chain.includes(path), `lib/${path} imports itself: ${[...chain, path].join(' → ')}`);
  const file = files.get(path);
  assert.ok(file !== undefined, `lib/${path} is imported by lib/${chain.at(-1)} and does not exist`);
  const below = Math.max(-1, ...file.siblings.map((sibling) => floorOf(sibling, [...chain, path])));
  return path.includes('/') ? below : below + 1;
}

/**
 * The table "| floor | modules |" of docs/architecture.md: each name in backticks, with the number of its
 * row.
 */
function documentedFloors(): [string, number][] {
  const page = readFileSync(join(root, 'docs/architecture.md'), 'utf8');
  const [, table = ''] = /^\| floor \| modules \|.*\n((?:\|.*\n)+)/m.exec(page) ?? [];
  return [...table.matchAll(/^\| (\d+) \|(.*)$/gm)].flatMap(([, floor, row = '']) =>
    Array.from(row.matchAll(/`([a-z0-9-]+)`/g), ([, name = '']): [string, number] => [name, Number(floor)]),
  );
}

function rowsOf(floors: readonly (readonly [string, number])[]): string {
  const highest = Math.max(...floors.map(([, floor]) => floor));
  return Array.from({ length: highest + 1 }, (_, row) => {
    const names = floors.filter(([, floor]) => floor === row).map(([name]) => `\`${name}\``);
    return `| ${row} | ${names.join(' ')} |`;
  }).join('\n');
}

// ── imports and introductions ─────────────────────────────────────────────────────────────────────────────

function isImportOfStreet(path: string, specifier: string): boolean {
  const [, yard] = /^\.\/([a-z]+)\/[a-z0-9-]+\.[jt]s$/.exec(specifier) ?? [];
  if (yard !== undefined) return YARDS.get(yard) === path;
  return /^node:|^\.\/[a-z0-9-]+\.ts$/.test(specifier);
}

/** The comment at the top of a file, its first line and the rest, without a `#!` line. */
function introductionOf(source: string): { does: string; needs: string } {
  const lines = source.replace(/^#!.*\n/, '').split('\n');
  const end = lines.findIndex((line) => !line.startsWith('//'));
  const [does = '', ...rest] = lines.slice(0, end).map((line) => line.replace(/^\/\/ ?/, ''));
  return { does, needs: rest.join(' ') };
}

/** The second line of a file, where it does not name exactly the files that it imports. */
function wrongNeeds({ source, siblings }: SourceFile): string | undefined {
  const { needs } = introductionOf(source);
  const [, list = ''] = /^Needs (.+?) beside it\./.exec(needs) ?? [];
  const named = Array.from(list.matchAll(/`(?:[a-z./]*\/)?([a-z0-9-]+\.[jt]s)`/g), ([, name]) => name).sort();
  const needed = siblings.map((sibling) => posix.basename(sibling)).sort();
  const isRight =
    needed.length === 0
      ? /^Stands alone: copy this file by itself\./.test(needs)
      : named.join() === needed.join();
  return isRight ? undefined : `needs ${needed.join(', ') || 'nothing'}, and says "${needs}"`;
}

// ── code without its comments ─────────────────────────────────────────────────────────────────────────────

// A digit, perhaps repeated, a hyphen, and a digit, where each may be a group or an alternative to `0`.
const ID_PATTERN =
  /(?:\\d|\[0-9\])(?:[+*]|\{[^}]*\})?\)?-\(?(?:\?:|\?<\w+>)?(?:0\|)?(?:\[1-9\])?(?:\\d|\[[01]-9\])/;

const STRING = /'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/;
const PATTERN =
  /(?<=[=(,:[!&|?{};>]\s*|\breturn\s+|^\s*)\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\//;
const COMMENT = /\/\/.*|\/\*[\s\S]*?\*\//;
const TOKEN = new RegExp(`(${STRING.source}|${PATTERN.source})|${COMMENT.source}`, 'gm');

function withoutComments(source: string): string {
  return source.replace(TOKEN, (_, kept: string | undefined) => kept ?? '');
}

// ── copies ────────────────────────────────────────────────────────────────────────────────────────────────

// Imports each file both ways. `require` compiles to CommonJS, which has no top-level await.
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

/** Copies a module, the modules that it needs, and whole the yard of which it needs a file. */
function copyWithNeeds(folder: string, path: string): void {
  const target = join(folder, nameOf(path));
  for (const needed of filesWith(path, siblingsOf)) {
    const copied = needed.includes('/') ? dirname(needed) : needed;
    cpSync(join(root, 'lib', copied), join(target, copied), { recursive: true });
  }
}

function siblingsOf(path: string): readonly string[] {
  const siblings = files.get(path)?.siblings;
  assert.ok(siblings !== undefined, `lib/${path} is imported and does not exist`);
  return siblings;
}

function readConfig(): { compilerOptions: Record<string, unknown> } {
  return JSON.parse(readFileSync(join(root, 'tsconfig.json'), 'utf8'));
}

function configFor(folder: string): object {
  const { compilerOptions } = readConfig();
  const typeRoots = [join(root, 'node_modules/@types')];
  const oldest = { lib: [OLDEST_LIB], target: OLDEST_TARGET, skipLibCheck: false };
  const emit = { noEmit: false, allowImportingTsExtensions: false };
  const places = { rootDir: folder, outDir: join(folder, COMPILED), typeRoots };
  return {
    compilerOptions: { ...compilerOptions, ...oldest, ...emit, ...places },
    include: ['*/*.ts', '*/dashboard/*.ts'],
    exclude: [COMPILED],
  };
}

// Imports each file, and uses some as a program does: a hub behind `serveEvents`, which a client reads.
const USER = `
  import assert from 'node:assert/strict';
  import { createServer } from 'node:http';
  import { pathToFileURL } from 'node:url';
  const copies = process.argv.slice(1);
  const modules = {};
  for (const file of copies) {
    try {
      modules[/([a-z0-9-]+)\\.js$/.exec(file)[1]] = await import(pathToFileURL(file));
    } catch (error) {
      process.exitCode = 1;
      console.log(file + ': ' + error.stack);
    }
  }
  const { events: { serveEvents }, hub: { Hub }, client: { connect }, stream: { openStream } } = modules;
  const hub = new Hub();
  const handler = serveEvents(hub, { path: '/events', gzip: true, heartbeat: { interval: 10 } });
  const server = createServer((req, res) => {
    if (req.url === '/own') openStream(req, res, { maxAge: 60_000 }).pipe(['a', { event: 'b', data: 'c' }]);
    else handler(req, res);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = 'http://127.0.0.1:' + server.address().port;
  const own = await (await fetch(origin + '/own')).text();
  assert.equal(own, 'data: a\\n\\nevent: b\\ndata: c\\n\\nevent: sluice:end\\ndata: {}\\n\\n');
  for (const n of [1, 2, 3]) hub.publish('a', { json: n });
  const read = [];
  for await (const event of connect(origin + '/events?topic=a&from=earliest')) {
    read.push(event.json);
    if (read.length === 3) hub.end('a');
  }
  assert.deepEqual(read, [1, 2, 3]);
  server.close();
  server.closeAllConnections();
`;

async function run(args: string[]): Promise<void> {
  // The child must not take itself for a part of this test run.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const child = promisify(execFile)(process.execPath, args, { cwd: root, env });
  await child.catch((error) => assert.fail(`${error.stdout}${error.stderr}`));
}
