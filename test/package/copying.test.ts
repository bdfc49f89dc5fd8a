// Modules that `sluice copy` of the packed package copies into empty projects, compiled and run there.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { openLibrary, type Size } from '../../lib/command/copy-library.ts';
import { compile, compilers, makeEmptyProject, makeProject, root } from './project.ts';
import { sizeOf } from './sizes.ts';

const tool = makeProject('tool', { private: true });
const installed = join(tool, 'node_modules/sluice');
const library = await openLibrary(pathToFileURL(`${installed}/`));
const names = [...library.needs.keys()];

/** Runs `sluice copy` in a project. */
function copy(project: string, ...argv: string[]): string {
  const args = [join(installed, 'dist/command/bin.js'), 'copy', ...argv];
  return execFileSync(process.execPath, args, { cwd: project, encoding: 'utf8' });
}

/** A project with a copy of each module in `sse`, a file that imports them all, and a program. */
function makeCopies(name: string, fields: object, js = false): string {
  const project = makeEmptyProject(name, { private: true, ...fields });
  copy(project, ...(js ? ['--js'] : []), ...names, 'sse');
  const extension = js ? 'js' : 'ts';
  const imports = names.map((one, n) => `import * as module${n} from './sse/${one}.${extension}';`);
  const uses = names.map((_, n) => `module${n}`).join(', ');
  writeFileSync(
    join(project, `main.${extension}`),
    `${imports.join('\n')}\nvoid [${uses}];\n${programOf(extension)}`,
  );
  return project;
}

/** A hub that is served and read; prints what was read, and nothing else. */
const programOf = (extension: string): string =>
  `
import { createServer } from 'node:http';
import { connect } from './sse/client.${extension}';
import { serveEvents } from './sse/events.${extension}';
import { Hub } from './sse/hub.${extension}';
const hub = new Hub();
const server = createServer(serveEvents(hub, { path: '/events' }));
server.listen(0, '127.0.0.1', async () => {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  for (const n of [1, 2, 3]) hub.publish('a', { json: n });
  const read: unknown[] = [];
  const url = \`http://127.0.0.1:\${address.port}/events?topic=a&from=earliest\`;
  for await (const event of connect(url)) {
    read.push(event.data);
    if (read.length === 3) hub.end('a');
  }
  console.log(read.join());
  server.close();
  server.closeAllConnections();
});
`.replace(extension === 'js' ? ': unknown[]' : /$^/, '');

/** Runs a program with a Node, which must not warn. */
function runs(project: string, file: string, node: string = process.execPath, flags: string[] = []): void {
  const { stdout, stderr } = spawnSync(node, [...flags, file], { cwd: project, encoding: 'utf8' });
  assert.deepEqual([stdout, stderr], ['1,2,3\n', '']);
}

const STRICTEST = {
  ...{ strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true },
  ...{ noImplicitOverride: true, noImplicitReturns: true, noFallthroughCasesInSwitch: true },
  ...{ noUnusedLocals: true, noUnusedParameters: true, noPropertyAccessFromIndexSignature: true },
  ...{ allowUnreachableCode: false, allowUnusedLabels: false, isolatedModules: true },
  ...{ erasableSyntaxOnly: true, noUncheckedSideEffectImports: true },
};
// The declarations of Node are not ours, and take longer to check than the copies.
const OF_NODE = { target: 'es2022', lib: ['es2022'], types: ['node'], skipLibCheck: true };

/** Compiles a project with these options, beside the configurations that others have made there. */
function compileWith(compiler: string, project: string, compilerOptions: object, files = ['main.ts']): void {
  const config = `${compiler}.json`;
  writeFileSync(join(project, config), JSON.stringify({ compilerOptions, files }));
  compile(compiler, project, '-p', config);
}

describe('the modules, copied as TypeScript into a project that', () => {
  const modules = makeCopies('nodenext', { type: 'module' });
  const commonjs = makeCopies('commonjs', { type: 'commonjs' });
  const bundled = makeCopies('bundler', { type: 'module' });
  const rewriting = { rewriteRelativeImportExtensions: true, module: 'nodenext' };

  for (const compiler of compilers) {
    it(`compiles to modules with the strictest flags and no DOM, in ${compiler}, and runs`, () => {
      const options = { ...STRICTEST, ...OF_NODE, ...rewriting, verbatimModuleSyntax: true };
      compileWith(compiler, modules, {
        ...options,
        declaration: true,
        isolatedDeclarations: true,
        outDir: compiler,
      });
      runs(modules, `${compiler}/main.js`);
    });

    it(`compiles to CommonJS, in ${compiler}, and runs`, () => {
      // The test above has checked the types.
      compileWith(compiler, commonjs, { ...OF_NODE, ...rewriting, noCheck: true, outDir: compiler });
      assert.match(
        readFileSync(join(commonjs, compiler, 'sse/hub.js'), 'utf8'),
        /\brequire\("\.\/order\.js"\)/,
      );
      runs(commonjs, `${compiler}/main.js`);
    });

    it(`type-checks under the resolution of bundlers, in ${compiler}`, () => {
      const bundling = { module: 'preserve', moduleResolution: 'bundler', allowImportingTsExtensions: true };
      compileWith(compiler, bundled, { ...STRICTEST, ...OF_NODE, ...bundling, noEmit: true });
    });
  }

  it('bundles them, and runs', async () => {
    const outfile = join(bundled, 'bundle.mjs');
    const entryPoints = [join(bundled, 'main.ts')];
    await build({ entryPoints, outfile, bundle: true, format: 'esm', platform: 'node', logLevel: 'silent' });
    runs(bundled, 'bundle.mjs');
  });

  for (const major of ['22', '24']) {
    it(`runs them as they are, where Node ${major} strips the types`, () => {
      const programs = execFileSync(join(root, '.ci/node'), [major], { encoding: 'utf8' }).trim();
      // Node 22 and 24 call the stripping of types experimental, in a warning.
      runs(modules, 'main.ts', join(programs, 'node'), ['--disable-warning=ExperimentalWarning']);
    });
  }
});

describe('the modules, copied as JavaScript into a project that', () => {
  const modules = makeCopies('javascript', { type: 'module' }, true);

  it('has no compiler, and runs', () => runs(modules, 'main.js'));

  it('requires them, from a folder of modules', () => {
    const project = makeEmptyProject('requiring', { private: true, type: 'commonjs' });
    copy(project, '--js', ...names, 'sse');
    writeFileSync(join(project, 'sse/package.json'), '{ "type": "module" }\n');
    const code = `const files = require('node:fs').readdirSync('./sse').filter((file) => /\\.js$/.test(file));
      for (const file of files) require('./sse/' + file);
      console.log(require('./sse/encode.js').encode({ data: files.length }.data > 100 ? { data: 'a' } : {}));`;
    writeFileSync(join(project, 'main.js'), code);
    const flags = ['--disable-warning=ExperimentalWarning', 'main.js'];
    const { stdout, stderr } = spawnSync(process.execPath, flags, { cwd: project, encoding: 'utf8' });
    assert.deepEqual([stdout, stderr], ['data: a\n\n\n', '']);
  });

  for (const compiler of compilers) {
    it(`knows their types, in ${compiler}, and needs those of Node for a server only`, () => {
      const use = `import { encode } from './sse/encode.js';
        import { Hub } from './sse/hub.js';
        // @ts-expect-error: data is text
        encode({ data: 1 });
        export const hub = new Hub();
        // @ts-expect-error: the topic comes first
        hub.publish({ data: '' });\n`;
      writeFileSync(join(modules, 'use.ts'), use);
      const options = { ...STRICTEST, target: 'es2022', module: 'nodenext', noEmit: true };
      compileWith(compiler, modules, { ...options, ...OF_NODE }, ['use.ts']);
      const readers = ['client', 'eventsource', 'decoder-stream', 'tabs', 'wake', 'encode'];
      const imports = readers.map(
        (name, n) => `import * as module${n} from './sse/${name}.js';\nvoid module${n};\n`,
      );
      writeFileSync(join(modules, 'page.ts'), imports.join(''));
      const page = { lib: ['es2022', 'dom', 'dom.iterable'], types: [], skipLibCheck: false };
      compileWith(compiler, modules, { ...options, ...page }, ['page.ts']);
    });
  }
});

describe('sluice copy of the packed package', () => {
  let project = '';
  before(() => {
    project = makeEmptyProject('project', { private: true, type: 'module' });
  });

  it('finds nothing in copies of all modules, in TypeScript and in JavaScript', () => {
    copy(project, ...names, 'ts');
    copy(project, '--js', ...names, 'js');
    assert.match(
      copy(project, '--check', 'ts'),
      new RegExp(`^${names.length} of ${names.length} copies are `),
    );
    assert.match(
      copy(project, '--check', 'js'),
      new RegExp(`^${2 * names.length} of ${2 * names.length} copies are `),
    );
  });

  it('lists each exported module with its lines, its sizes as measured here, and its needs', async () => {
    const [head = '', ...rest] = copy(project, '--list').trimEnd().split('\n');
    assert.match(head, /^module +lines +min KB +min\+gz KB +needs$/);
    const rows = rest.slice(0, -1).map((line) => line.split(/ {2,}/));
    const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    const exported = names.filter((name) => Object.hasOwn(exports, `./${name}`));
    assert.deepEqual(
      rows.map(([name]) => name),
      exported,
    );
    for (const [name = '', lines, min, gzip, needs] of rows) {
      const size: Size = await sizeOf([name]);
      const files = [name, ...library.needs.get(name)!];
      const all = files.reduce((sum, file) => sum + linesOf(file), 0);
      assert.deepEqual(
        [lines, min, gzip],
        [String(all), (size.min / 1000).toFixed(1), (size.gzip / 1000).toFixed(1)],
        name,
      );
      assert.equal(needs === '-', files.length === 1, name);
    }
  });

  it('lists a named module with all that it needs', () => {
    const [, row = ''] = copy(project, '--list', 'events').split('\n');
    const needs = row.split(/ {2,}/).at(-1)?.split(' ') ?? [];
    assert.ok(needs.length > 20);
    mkdirSync(join(project, 'one'));
    copy(project, 'events', 'one');
    assert.deepEqual(
      readdirSync(join(project, 'one')),
      ['events', ...needs].map((name) => `${name}.ts`).sort(),
    );
  });
});

describe('docs/copying.md', () => {
  const page = readFileSync(join(root, 'docs/copying.md'), 'utf8');
  const partsOf = (mark: string, language: string): string[] =>
    Array.from(
      page.matchAll(new RegExp(`<!-- ${mark} -->\\n\`\`\`${language}\\n(.*?)\`\`\``, 'gs')),
      ([, text = '']) => text,
    );
  const project = makeProject('documented', { private: true, type: 'module' });

  it('shows commands that do what they are shown for', () => {
    const commands = partsOf('commands', 'sh').flatMap((block) => block.trimEnd().split('\n'));
    assert.equal(commands.length, 5);
    for (const command of commands) {
      assert.match(command, /^npx sluice copy /);
      const answer = spawnSync('sh', ['-c', command], { cwd: project, encoding: 'utf8' });
      assert.deepEqual([answer.status, answer.stderr], [0, ''], command);
    }
    assert.ok(existsSync(join(project, 'src/sse/address.ts')));
    assert.ok(existsSync(join(project, 'public/sse/address.d.ts')));
  });

  it('shows the head of a copy', () => {
    copy(project, '--force', 'encode', 'src/sse');
    const [header = ''] = partsOf('header', 'ts');
    const expected = header.replace(/ \S+,/, ` ${library.version},`);
    const text = readFileSync(join(project, 'src/sse/encode.ts'), 'utf8');
    assert.equal(text.slice(0, text.indexOf('\n\n') + 1).replace(/[0-9a-f]{64}/, 'HASH'), expected);
  });

  for (const compiler of compilers) {
    it(`shows configurations under which copies compile in ${compiler}`, () => {
      copy(project, '--force', 'limiter', 'src/sse');
      for (const name of ['compiled', 'checked']) {
        const [config = ''] = partsOf(`example: ${name}`, 'json');
        writeFileSync(join(project, `${name}.json`), config);
        compile(compiler, project, '-p', `${name}.json`);
      }
      const use = "import { encode } from './dist/sse/encode.js'; console.log(encode({ data: 'a' }).length)";
      const args = ['--input-type=module', '--eval', use];
      assert.equal(execFileSync(process.execPath, args, { cwd: project, encoding: 'utf8' }), '9\n');
    });
  }

  it('names only options that the command has, and each of them', () => {
    const help = copy(project, '--help');
    const optionsOf = (text: string): Set<string> => new Set(text.match(/(?<=[`[ ])--[a-z]+\b/g));
    const own = [...optionsOf(help)].filter((option) => option !== '--help');
    assert.deepEqual([...optionsOf(page)].sort(), own.sort());
  });
});

function linesOf(name: string): number {
  return readFileSync(join(root, 'lib', `${name}.ts`), 'utf8').split('\n').length - 1;
}
