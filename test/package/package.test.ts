// The package as its users get it: packed, installed in an empty project, compiled and run there.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from 'esbuild';
import { freePort } from '../helpers/free-port.ts';
import { compile, compilers, makeProject, root } from './project.ts';

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const readme = readFileSync(join(root, 'README.md'), 'utf8');

describe('the packed package', () => {
  const project = makeProject('modules', { private: true });
  const ids = Object.entries(manifest.exports)
    .filter(([, target]) => typeof target === 'object')
    .map(([key]) => manifest.name + key.slice(1));

  it('has no dependencies', () => {
    const { packages } = JSON.parse(readFileSync(join(project, 'package-lock.json'), 'utf8'));
    assert.deepEqual(Object.keys(packages), ['', `node_modules/${manifest.name}`]);
  });

  it('gives the same names to `import` and to `require`, from each module, without a warning', () => {
    const load = `const names = {};
      for (const id of ${JSON.stringify(ids)})
        names[id] = Object.keys(await LOAD(id)).filter((name) => name !== '__esModule').sort();
      console.log(JSON.stringify(names));`;
    const imported = evaluate(project, 'module', load.replace('LOAD', 'import'));
    const required = evaluate(project, 'commonjs', load.replace('await LOAD', 'require'));
    assert.deepEqual(required, imported);
  });

  it('keeps the modules of the command and of the dashboard to itself', () => {
    const inner = ['command/cli', 'command/cli.js', 'dashboard/dashboard', 'dist/hub.js'];
    const load = `const codes = [];
      for (const path of ${JSON.stringify(inner)})
        codes.push(await import('${manifest.name}/' + path).then(() => 'imported', ({ code }) => code));
      console.log(JSON.stringify(codes));`;
    const codes = inner.map(() => 'ERR_PACKAGE_PATH_NOT_EXPORTED');
    assert.deepEqual(evaluate(project, 'module', load), codes);
  });

  /** Bundles a module of the project for a page, and returns the names of what the bundle still imports. */
  async function bundle(code: string): Promise<string[]> {
    const { metafile } = await build({
      stdin: { contents: code, resolveDir: project },
      bundle: true,
      write: false,
      metafile: true,
      format: 'esm',
      platform: 'browser',
      logLevel: 'silent',
    });
    return Object.values(metafile.outputs).flatMap(({ imports }) => imports.map(({ path }) => path));
  }

  it('can be bundled for a browser, from the root and from each module of a reader', async () => {
    for (const module of [
      '',
      '/client',
      '/eventsource',
      '/decode',
      '/decoder-stream',
      '/tabs',
      '/wake',
      '/encode',
    ]) {
      const code = `export * from '${manifest.name}${module}';`;
      assert.deepEqual(await bundle(code), [], `sluice${module}`);
    }
    const wanted = ['connect', 'createDecoder', 'decode', 'encode', 'EventSource', 'shareAcrossTabs'];
    assert.deepEqual(await bundle(`export { ${wanted} } from '${manifest.name}';`), []);
    await assert.rejects(bundle(`export { Hub } from '${manifest.name}';`), /No matching export .* "Hub"/s);
    // The root of a server does import Node: the test above would not notice it without `browser`.
    await assert.rejects(bundle(`export * from './node_modules/${manifest.name}/dist/index.js';`), /"node:/);
  });

  it('runs as a command, and serves the dashboard', async (t) => {
    const version = execFileSync('npx', ['--no-install', 'sluice', '--version'], {
      cwd: project,
      encoding: 'utf8',
    });
    assert.equal(version.trim(), manifest.version);
    const bin = join(project, 'node_modules', manifest.name, manifest.bin[manifest.name]);
    const port = await freePort();
    await start(t, project, port, [process.execPath, bin, 'serve', '--port', String(port)]);
    const url = `http://127.0.0.1:${port}/`;
    const page = await fetch(url);
    assert.equal(page.status, 200);
    assert.match(page.headers.get('content-type') ?? '', /^text\/html\b/);
    for (const [, file = ''] of (await page.text()).matchAll(/ (?:src|href)="([^":#]+)"/g))
      assert.equal((await fetch(new URL(file, url))).status, 200, file);
  });

  for (const compiler of compilers) {
    it(`type-checks whole, with its declarations, in ${compiler}`, () => {
      const modules = ids.map((id, n) => `import * as module${n} from '${id}';\nvoid module${n};\n`);
      const checked = makeProject(`whole-${compiler}`, { private: true, type: 'module' });
      writeFileSync(join(checked, 'all.ts'), modules.join(''));
      compile(compiler, checked, '--strict', '--noEmit', '--module', 'nodenext', '--types', 'node', 'all.ts');
    });
  }
});

describe('the declarations of a reader', () => {
  const checked = makeProject('reader', { private: true, type: 'module' });
  const reader = ['client', 'decode', 'transport', 'positions', 'encode', 'protocol'];
  const inPages = [...reader, 'eventsource', 'tabs', 'decoder-stream', 'wake'];
  const use = (modules: readonly string[]): string =>
    modules
      .map((module, n) => `import * as module${n} from 'sluice/${module}';\nvoid module${n};\n`)
      .join('');
  // What callers pass in has to fit the types of their host.
  const hosted = `import { connect } from 'sluice/client';
    import { decode } from 'sluice/decode';
    import { fetchTransport, type Transport } from 'sluice/transport';
    const transport: Transport = async (request) => {
      const response = await fetch(request.url, { signal: request.signal });
      return fetchTransport({ fetch })({ ...request, url: new URL(response.url) });
    };
    export async function read(signal: AbortSignal): Promise<string> {
      for await (const { data } of connect(new URL('https://a.example/'), { signal, transport })) return data;
      const { body } = await fetch('https://a.example/');
      for await (const { data } of decode(body!)) return data;
      return '';
    }\n`;

  for (const compiler of compilers) {
    for (const [lib, types, code] of [
      ['es2022', '', use(reader)],
      ['es2022,dom,dom.iterable', '', use(inPages) + hosted],
      ['es2022,webworker', '', use(inPages) + hosted],
      ['es2022', 'node', use(inPages) + hosted],
    ] as const) {
      it(`type-check in ${compiler} with the library ${lib} and ${types || 'no types of Node'}`, () => {
        const name = `${compiler}-${lib}-${types}`.replaceAll(',', '-');
        writeFileSync(join(checked, `${name}.ts`), code);
        const compilerOptions = {
          ...{ strict: true, noEmit: true, skipLibCheck: false, exactOptionalPropertyTypes: true },
          ...{ target: 'es2022', module: 'preserve', moduleResolution: 'bundler' },
          lib: lib.split(','),
          types: types === '' ? [] : [types],
        };
        const config = { compilerOptions, files: [`${name}.ts`] };
        writeFileSync(join(checked, `${name}.json`), JSON.stringify(config));
        compile(compiler, checked, '-p', `${name}.json`);
      });
    }
  }
});

describe('the first example of the README', () => {
  const example = /<!-- example: [\w-]+ -->\n```ts\n(.*?)```/s.exec(readme)?.[1] ?? '';

  it('is a server made of `serveEvents`', () => {
    assert.match(example, /import \{[^}]*\bserveEvents\b[^}]*\} from 'sluice'/);
  });

  it('stands beside the two settings that `tsc --init` and `npm init` do not make', () => {
    for (const setting of ['"types": ["node"]', '"type": "module"'])
      assert.ok(readme.includes(`\`${setting}\``), `the README does not name \`${setting}\``);
  });

  for (const compiler of compilers) {
    it(`type-checks under \`tsc --init\` of ${compiler}, with the types of Node`, () => {
      const project = makeProject(compiler, { private: true, type: 'module' });
      compile(compiler, project, '--init');
      const config = join(project, 'tsconfig.json');
      // `--init` writes `"types": []`, which hides @types/node, and a comment with this line for Node.
      writeFileSync(config, readFileSync(config, 'utf8').replace('"types": []', '"types": ["node"]'));
      writeFileSync(join(project, 'serve.ts'), example);
      compile(compiler, project, '--noEmit');
    });
  }

  const stripping = process.features.typescript ? process.execPath : process.env.NODE_WITH_TYPES;
  const ways: [string, string, string[] | undefined][] = [
    ['serve.mjs', 'as JavaScript', [process.execPath]],
    [
      'serve.ts',
      'as TypeScript, in a Node that strips types',
      stripping === undefined ? undefined : [stripping],
    ],
    ['serve.ts', 'as TypeScript, under tsx', [process.execPath, join(root, 'node_modules/tsx/dist/cli.mjs')]],
  ];
  for (const [file, how, command] of ways) {
    const skip = command === undefined && 'needs Node ≥ 22.18: run it in one, or name one in NODE_WITH_TYPES';
    it(`runs ${how}, and delivers an event`, { skip }, async (t) => {
      const project = makeProject(how, { private: true, type: 'module' });
      const port = await freePort();
      assert.match(example, /\b8080\b/);
      writeFileSync(join(project, file), example.replace('8080', String(port)));
      await start(t, project, port, [...(command ?? []), file]);
      assert.match(await firstEvent(`http://127.0.0.1:${port}/`), /^id: \d+-\d+$/m);
    });
  }
});

/** What a program prints, as JSON; a warning fails it. */
function evaluate(project: string, type: 'module' | 'commonjs', code: string): unknown {
  const args = [`--input-type=${type}`, '--eval', code];
  const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: project, encoding: 'utf8' });
  assert.equal(stderr, '');
  return JSON.parse(stdout);
}

/** Starts a program that listens on `port`, and ends it with the test. */
async function start(
  t: TestContext,
  cwd: string,
  port: number,
  [command = '', ...args]: string[],
): Promise<void> {
  const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  t.after(() => stop(child));
  while (!(await isAccepted(port))) {
    assert.equal(child.exitCode, null, output);
    await sleep(20);
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill();
  await once(child, 'close');
}

function isAccepted(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => resolve(false));
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}

/** The lines of the first event with data that is not a control event. */
async function firstEvent(url: string): Promise<string> {
  const { body } = await fetch(url);
  assert.ok(body !== null);
  let text = '';
  for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const event = text
      .split('\n\n')
      .slice(0, -1)
      .find((block) => /^data:/m.test(block) && !block.includes('event: sluice:'));
    if (event !== undefined) return event;
  }
  return assert.fail(`the stream ended without an event: ${text}`);
}
