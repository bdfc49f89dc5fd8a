// Runs the example of docs/models.md that needs the package of others, and compiles all of them.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { TEXT, wires } from '../../fixtures/models.ts';
import { examplesOf, runnable, typeErrorsIn } from '../../helpers/docs.ts';
import { serve } from '../../helpers/server.ts';
import { clients } from './clients.ts';

const ORIGIN = 'http://localhost:8080';
const examples = examplesOf(new URL('../../../docs/models.md', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'sluice-models-'));
after(() => rmSync(folder, { recursive: true }));

const pathOf = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

describe('the examples of docs/models.md', () => {
  it('sdk relays what the API sends to the same client, and refuses where the API does', async (t) => {
    let wire = '';
    const api = await serve(t, (req, res) => {
      if (wire === '') res.writeHead(400).end();
      else
        req.resume().on('end', () => res.writeHead(200, { 'content-type': 'text/event-stream' }).end(wire));
    });
    const file = join(folder, 'sdk.mts');
    const code = runnable(examples.get('sdk')!, ORIGIN)
      .replace("'openai'", `'${import.meta.resolve('openai')}'`)
      .replace("8080, '127.0.0.1'", "0, '127.0.0.1', function () { console.log(this.address().port); }");
    writeFileSync(file, code);
    const env = { ...process.env, API_URL: api.url, API_KEY: 'none' };
    const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), file], { env });
    t.after(() => child.kill());
    const [port] = await once(child.stdout, 'data');
    const url = `http://127.0.0.1:${String(port).trim()}`;
    const { whole } = clients['openai, chat completions']!;
    await assert.rejects(whole(url), /502/);
    wire = wires['openai-chat']!.whole;
    assert.equal(await whole(url), TEXT);
    wire = wires['openai-chat']!.failed;
    await assert.rejects(whole(url));
    wire = wires['openai-chat']!.cut;
    await assert.rejects(whole(url), /the source of this stream failed/);
  });

  it('compile under `strict`, also with the types of a browser', async () => {
    const programs = [...examples].filter(([, { language }]) => language === 'ts');
    const files = programs.map(([name, example]) => {
      const file = join(folder, `types-${name}.mts`);
      writeFileSync(file, runnable(example, ORIGIN));
      return file;
    });
    const paths = { openai: [pathOf('node_modules/openai/index.d.mts')] };
    for (const lib of [['es2024'], ['es2024', 'dom']])
      assert.equal(await typeErrorsIn(join(folder, 'tsconfig.json'), files, { paths, lib }), '');
  });
});
