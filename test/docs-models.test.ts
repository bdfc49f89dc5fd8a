import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, describe, it, type TestContext } from 'node:test';
import { wires } from './fixtures/models.ts';
import { examplesOf, runnable } from './helpers/docs.ts';
import { parse } from './helpers/reader.ts';
import { serve } from './helpers/server.ts';

const examples = examplesOf(new URL('../docs/models.md', import.meta.url));
const tsx = import.meta.resolve('tsx');
const folder = mkdtempSync(join(tmpdir(), 'sluice-models-'));
after(() => rmSync(folder, { recursive: true }));

/** test/interop runs those that need the packages of others. */
const inInterop = ['sdk'];

function start(name: string, code: string, env: NodeJS.ProcessEnv = {}): ChildProcess {
  const file = join(folder, `${name}.mts`);
  writeFileSync(file, code);
  return spawn(process.execPath, ['--import', tsx, file], { env: { ...process.env, ...env } });
}

/** Runs an example that is a server; answers where it listens. */
async function serving(t: TestContext, name: string, env?: NodeJS.ProcessEnv): Promise<string> {
  const code = runnable(examples.get(name)!, 'http://localhost:8080');
  // It says which port it got.
  const child = start(
    name,
    code.replace(
      ".listen(8080, '127.0.0.1')",
      ".listen(0, '127.0.0.1', function () { console.log(this.address().port); })",
    ),
    env,
  );
  t.after(() => child.kill());
  const [port] = await once(child.stdout!, 'data');
  return `http://127.0.0.1:${String(port).trim()}`;
}

async function post(url: string): Promise<Response> {
  return fetch(url, { method: 'POST', body: '{}' });
}

describe('the examples of docs/models.md', () => {
  it('serve speaks three dialects', async (t) => {
    const url = await serving(t, 'serve');
    const last = async (path: string) => {
      const { frames } = parse(await (await post(`${url}${path}`)).text());
      return frames.at(-1)?.data;
    };
    assert.equal(await last('/v1/chat/completions'), '[DONE]');
    assert.equal(await last('/v1/messages'), '{"type":"message_stop"}');
    assert.equal(await last('/api/chat'), '[DONE]');
    const { status, headers } = await post(`${url}/api/chat`);
    assert.deepEqual([status, headers.get('x-vercel-ai-ui-message-stream')], [200, 'v1']);
    assert.equal((await post(`${url}/elsewhere`)).status, 404);
  });

  it('ask prints what the page promises', async (t) => {
    const command = runnable(examples.get('ask')!, '').replaceAll(
      'http://127.0.0.1:8080',
      await serving(t, 'serve'),
    );
    const printed = await text(spawn('sh', ['-c', command]).stdout);
    const same = (output: string) => output.trimEnd().replace(/"messageId":"[^"]+"/, '');
    assert.equal(same(printed), same(examples.get('printed')!.code));
  });

  it('relay sends on what the API sends, its failures and its cuts', async (t) => {
    let wire = '';
    const api = await serve(t, (req, res) => {
      assert.equal(req.headers['content-type'], 'application/json');
      if (wire === '') res.writeHead(529).end();
      else
        req.resume().on('end', () => res.writeHead(200, { 'content-type': 'text/event-stream' }).end(wire));
    });
    const url = await serving(t, 'relay', { API_URL: api.url });
    assert.equal((await post(url)).status, 502);
    wire = wires.anthropic!.whole;
    assert.equal(await (await post(url)).text(), wire);
    wire = wires.anthropic!.failed;
    assert.equal(await (await post(url)).text(), wire);
    wire = wires.anthropic!.cut;
    const { frames } = parse(await (await post(url)).text());
    assert.deepEqual([frames.length, frames.at(-1)?.event], [6, 'error']);
  });

  it('read prints the text of what serve sends, and fails where that fails', async (t) => {
    const code = runnable(examples.get('read')!, await serving(t, 'serve'));
    const child = start('read', code);
    assert.equal(await text(child.stdout!), 'Streams are cursors.');
    const failing = await serve(t, (req, res) => {
      req
        .resume()
        .on('end', () =>
          res.writeHead(200, { 'content-type': 'text/event-stream' }).end(wires.anthropic!.failed),
        );
    });
    const second = start('failing', runnable(examples.get('read')!, failing.url.slice(0, -1)));
    const closed = once(second, 'close');
    assert.match(await text(second.stderr!), /Overloaded/);
    assert.deepEqual(await closed, [1, null]);
  });

  it('name the versions of the clients that the tests run', () => {
    const manifest = readFileSync(new URL('interop/models/package.json', import.meta.url), 'utf8');
    const page = readFileSync(new URL('../docs/models.md', import.meta.url), 'utf8');
    for (const [name, version] of Object.entries(JSON.parse(manifest).dependencies)) {
      assert.ok(page.includes(`\`${name}\` ${version}`), `${name} ${version}`);
    }
  });

  it('are all run, here or in test/interop/models', () => {
    assert.deepEqual(
      [...examples.keys()].filter((name) => !inInterop.includes(name)),
      ['install', 'serve', 'ask', 'printed', 'relay', 'read'],
    );
  });
});
