// Runs the examples of docs/schemas.md, and compiles all of them.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { validate } from '@hyperjump/json-schema/openapi-3-2';
import { encode } from '../../../lib/encode.ts';
import { examplesOf, runnable, typeErrorsIn } from '../../helpers/docs.ts';
import { listen } from '../../helpers/server.ts';

const examples = examplesOf(new URL('../../../docs/schemas.md', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'sluice-schemas-'));
after(() => rmSync(folder, { recursive: true }));

const PACKAGES = ['zod', 'valibot', '@valibot/to-json-schema'];
const pathOf = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
write('events', codeOf('events'));

/** The code of an example, changed to import from lib/ and from the packages of this folder. */
function codeOf(name: string, origin = 'http://127.0.0.1:8080'): string {
  const code = runnable(examples.get(name)!, origin).replaceAll('http://127.0.0.1:8080', origin);
  return PACKAGES.reduce((text, one) => text.replace(`'${one}'`, `'${import.meta.resolve(one)}'`), code);
}

function write(name: string, code: string): string {
  const file = join(folder, `${name}.ts`);
  writeFileSync(file, code);
  return file;
}

function run(t: TestContext, name: string, code: string): ChildProcess {
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), write(name, code)]);
  t.after(() => child.kill());
  return child;
}

/** What a program prints, and with which code it exits. */
async function ended(child: ChildProcess): Promise<[string, string, number]> {
  const closed = once(child, 'close');
  const [out, error] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  return [out, error, (await closed)[0]];
}

describe('the examples of docs/schemas.md', () => {
  it('server and reader: prints what the schemas return', async (t) => {
    const code = codeOf('server').replace(
      "8080, '127.0.0.1'",
      "0, '127.0.0.1', function () { console.log(this.address().port); }",
    );
    const server = run(t, 'server', code);
    const [port] = await once(server.stdout!, 'data');
    const reader = run(t, 'reader', codeOf('reader', `http://127.0.0.1:${String(port).trim()}`));
    let printed = '';
    for await (const chunk of reader.stdout!) {
      printed += chunk;
      if (printed.endsWith('halted\n')) break;
    }
    assert.equal(printed, 'SLC 7.25 2026\nSLC halted\n');
  });

  it('reader: goes on behind an event that does not fit, and says so', async (t) => {
    const port = await listen(
      t,
      createServer((_, res) => {
        res.writeHead(200, { 'content-type': 'text/event-stream' });
        const data = ['{"symbol":1}', '{"symbol":"SLC"}'];
        res.end(
          data.map((one) => encode({ event: 'halt', data: one })).join('') +
            encode({ event: 'sluice:end', data: '{}' }),
        );
      }),
    );
    const [out, error, exitCode] = await ended(
      run(t, 'reader', codeOf('reader', `http://127.0.0.1:${port}`)),
    );
    assert.deepEqual([out, exitCode], ['SLC halted\n', 0]);
    assert.match(error, /^event "halt": symbol: Invalid input: expected string, received number/);
  });

  it('describe: prints a description that is valid', async (t) => {
    const [out] = await ended(run(t, 'describe', codeOf('describe')));
    const { valid } = await validate('https://spec.openapis.org/oas/3.2/schema-base', JSON.parse(out));
    assert.ok(valid);
  });

  it('valibot: states its JSON Schema', async () => {
    const { events } = await import(write('valibot', codeOf('valibot')));
    assert.deepEqual(events.jsonSchemaOf('tick').properties.price, { type: 'number' });
  });

  it('compile under `strict`, but for the line that must not', async () => {
    const server = examples.get('server')!.code;
    const wrong = server.replace(/^\/\/ (hub\.publish\(.+\);).*$/m, '$1');
    assert.notEqual(wrong, server);
    const typed = new Map([...examples.keys()].map((name) => [name, `types-${name}`]));
    const files = Array.from(typed, ([name, file]) => write(file, withTypes(examples.get(name)!.code)));
    write('events', withTypes(examples.get('events')!.code));
    const paths = {
      zod: [pathOf('node_modules/zod/index.d.ts')],
      valibot: [pathOf('node_modules/valibot/dist/index.d.mts')],
      '@valibot/to-json-schema': [pathOf('node_modules/@valibot/to-json-schema/dist/index.d.mts')],
    };
    assert.equal(await typeErrorsIn(join(folder, 'tsconfig.json'), files, { paths }), '');
    const file = write('types-wrong', withTypes(wrong));
    const errors = await typeErrorsIn(join(folder, 'tsconfig.json'), [file], { paths });
    assert.match(errors, /'string' is not assignable to type 'number'/);
    write('events', codeOf('events'));
  });
});

/** The packages are found by `paths`. */
function withTypes(code: string): string {
  return runnable({ language: 'ts', code }, 'http://127.0.0.1:8080');
}
