// Readers behind a proxy: the one that the environment names, by Node's own agent or by that of `proxy-agent`.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, describe, it, type TestContext } from 'node:test';
import { createProxy } from 'proxy';
import { cert, key } from '../fixtures/tls.ts';
import { examplesOf, runnable, serveExamples } from '../helpers/docs.ts';
import { frame, open } from '../helpers/misbehaving.ts';
import { listen } from '../helpers/server.ts';

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
/** Whether this Node has `http.Agent({ proxyEnv })`. */
const hasProxyEnv = major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);

const folder = mkdtempSync(join(tmpdir(), 'sluice-proxy-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const authority = join(folder, 'cert.pem');
writeFileSync(authority, cert);

/** A proxy, and what it was asked for. */
async function proxied(t: TestContext): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  const server = createServer();
  server.on('request', ({ method, url }) => asked.push(`${method} ${url}`));
  server.on('connect', ({ method, url }) => asked.push(`${method} ${url}`));
  const port = await listen(t, createProxy(server));
  return { url: `http://127.0.0.1:${port}`, asked };
}

/** An origin whose stream stays open after one event. */
async function streaming(t: TestContext, protocol: 'http' | 'https'): Promise<URL> {
  const handler: Parameters<typeof createServer>[1] = (_, res) => open(res, frame(1));
  const server = protocol === 'https' ? createHttpsServer({ key, cert }, handler) : createServer(handler);
  return new URL(`${protocol}://localhost:${await listen(t, server)}/events?topic=a`);
}

/** What a program prints that runs in this environment alone. */
async function outputOf(name: string, code: string, env: Record<string, string>): Promise<string> {
  const file = join(folder, `${name}.mts`);
  writeFileSync(file, code);
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), file], {
    env: { PATH: process.env.PATH, NODE_EXTRA_CA_CERTS: authority, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return out || err;
}

const client = new URL('../../lib/client.ts', import.meta.url);
const transports = new URL('../../lib/transport.ts', import.meta.url);

const reading = (url: URL, options = ''): string => `
  import { connect } from '${client}';
  import { nodeTransport } from '${transports}';
  import { ProxyAgent } from '${import.meta.resolve('proxy-agent')}';
  for await (const { data } of connect('${url}', { ${options} })) {
    console.log(data);
    break;
  }`;
const withAgent = 'transport: nodeTransport({ agent: new ProxyAgent() })';

describe('the proxy of the environment', () => {
  for (const protocol of ['http', 'https'] as const) {
    const variable = `${protocol.toUpperCase()}_PROXY`;
    const asking = ({ href, host }: URL) => (protocol === 'http' ? `GET ${href}` : `CONNECT ${host}`);

    it(`is used for ${protocol}: by Node’s own agent, where that can, and is ignored elsewhere`, async (t) => {
      const { url: proxy, asked } = await proxied(t);
      const url = await streaming(t, protocol);
      assert.equal(await outputOf(`own-${protocol}`, reading(url), { [variable]: proxy }), '1\n');
      assert.deepEqual(asked, hasProxyEnv ? [asking(url)] : []);
    });

    it(`is used for ${protocol} by an agent of proxy-agent, on every Node`, async (t) => {
      const { url: proxy, asked } = await proxied(t);
      const url = await streaming(t, protocol);
      const output = await outputOf(`agent-${protocol}`, reading(url, withAgent), { [variable]: proxy });
      assert.equal(output, '1\n');
      assert.deepEqual(asked, [asking(url)]);
    });
  }

  it('is not used for the hosts of NO_PROXY', async (t) => {
    const { url: proxy, asked } = await proxied(t);
    const url = await streaming(t, 'http');
    for (const options of ['', withAgent]) {
      const env = { HTTP_PROXY: proxy, NO_PROXY: 'localhost' };
      assert.equal(await outputOf('no-proxy', reading(url, options), env), '1\n');
    }
    assert.deepEqual(asked, []);
  });

  it('is used by the example of docs/client.md, as it stands', async (t) => {
    const { url: proxy, asked } = await proxied(t);
    const server = await serveExamples((_, res) => res.writeHead(404).end());
    t.after(() => server.close());
    const example = examplesOf(new URL('../../docs/client.md', import.meta.url)).get('proxied')!;
    const code = runnable(example, server.url.slice(0, -1));
    const resolved = code.replace("'proxy-agent'", `'${import.meta.resolve('proxy-agent')}'`);
    assert.match(await outputOf('proxied', resolved, { HTTP_PROXY: proxy }), /^(\{"price":.*\}\n){3}$/);
    assert.deepEqual(asked, [`GET ${server.url}events?topic=prices`]);
  });
});
