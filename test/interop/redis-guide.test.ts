// What docs/operating.md says of Redis, tried with a real one: its example and its least permissions.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { freePort } from '../helpers/free-port.ts';
import { Reader, Reading } from '../helpers/reader.ts';
import { kept } from './helpers/children.ts';
import { startOrigin } from './helpers/origin.ts';
import { startRedis, startSentinels, until } from './helpers/redis-servers.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const guide = readFileSync(join(root, 'docs/operating.md'), 'utf8');

/** The block of code below a comment. */
function blockOf(comment: string): string {
  const [, code] = new RegExp(`<!-- ${comment} -->\n\`\`\`\\w*\n([^]*?)\`\`\``).exec(guide) ?? [];
  assert.ok(code !== undefined, `the guide has no <!-- ${comment} -->`);
  return code;
}

/** Runs a program of the guide, with the clients installed. Resolves with its URL once it listens. */
async function runExample(t: TestContext, code: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-guide-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  symlinkSync(join(import.meta.dirname, 'node_modules'), join(folder, 'node_modules'));
  const file = join(folder, 'server.mts');
  writeFileSync(
    file,
    code.replace(/'sluice(?:\/([\w-]+))?'/g, (_, name = 'index') => `'${root}/lib/${name}.ts'`),
  );
  const child = kept(
    spawn(process.execPath, ['--import', import.meta.resolve('tsx'), file], {
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
  t.after(() => child.kill('SIGKILL'));
  const complaints = new Reading(child.stderr);
  const said = await new Reading(child.stdout).until('\n').catch(() => complaints.over);
  const [url] = /^http:\S+/.exec(said) ?? [];
  assert.ok(url !== undefined, said);
  return url;
}

/** Publishes an event to this topic, as often as it takes. */
async function publish(url: string, data: string): Promise<void> {
  const headers = { 'Idempotency-Key': randomUUID() };
  await until(async () => {
    const response = await fetch(`${url}/topics/news`, { method: 'POST', body: data, headers });
    await response.text();
    assert.ok([200, 503].includes(response.status), `${response.status}`);
    return response.status === 200;
  });
}

describe('the operating guide', { timeout: 60_000 }, () => {
  it('has a server of Sentinel that goes on at the new primary after a failover', async (t) => {
    const sentinels = await startSentinels(t);
    const port = await freePort();
    const code = blockOf('example: sentinel')
      .replace('26379', String(sentinels.sentinels[0]?.port))
      .replace('8080', String(port));
    const url = await runExample(t, code);
    const reader = await Reader.open(`${url}/events?topic=news`);
    t.after(() => reader.close());
    await publish(url, 'before');
    await sentinels.failover();
    await publish(url, 'after');
    await reader.until(({ data }) => data.includes('after'));
    const gaps = reader.frames
      .filter(({ event }) => event === 'sluice:gap')
      .map(({ data }) => JSON.parse(data));
    assert.deepEqual(
      gaps.map(({ reason }) => reason),
      ['store-changed'],
    );
  });

  it('lists the least permissions: with them everything works', async (t) => {
    const { port, command } = await startRedis(t);
    const secret = 'open-sesame';
    const [, ...words] = blockOf('acl').replaceAll(/['\\]/g, '').trim().split(/\s+/);
    assert.equal(await command(...words.map((word) => word.replace('PASSWORD', secret))), 'OK');
    const log = `redis://sluice@127.0.0.1:${port}`;
    const setting = { cwd: import.meta.dirname, env: { SLUICE_REDIS_PASSWORD: secret } };
    const origin = await startOrigin(t, ['--log', log], 0, setting);
    const { url } = origin;
    const reader = await Reader.open(`${url}/events?topic=news`);
    t.after(() => reader.close());
    await publish(url, 'one');
    await reader.until(({ data }) => data.length === 1);
    const response = await fetch(`${url}/topics`);
    assert.equal(response.status, 200);
    await response.text();
    const old = await Reader.open(`${url}/events?topic=news&last=1`);
    t.after(() => old.close());
    await old.until(({ data }) => data.length === 1);
    assert.equal((await fetch(`${url}/topics/news`, { method: 'DELETE' })).ok, true);
    await reader.over;
    assert.doesNotMatch(origin.log.text, /NOPERM|"log-failed"/);
  });
});
