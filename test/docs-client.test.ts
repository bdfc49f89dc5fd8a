import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { formatId } from '../lib/protocol.ts';
import { examplesOf, runnable, serveExamples } from './helpers/docs.ts';
import { idOf } from './helpers/misbehaving.ts';
import type { TestServer } from './helpers/server.ts';

const examples = examplesOf(new URL('../docs/client.md', import.meta.url));
const tsx = import.meta.resolve('tsx');

/** An id of a former life of the server. */
const formerId = formatId(1795408312207551, 5);

/** What each example prints. test/interop runs those that need a browser or a package. */
const prints: Record<string, RegExp> = {
  loop: new RegExp(`^tick \\{"price":7.25\\} ${idOf(1)}\ntick .* ${idOf(2)}\ntick .* ${idOf(3)}\n$`),
  typed: /^7\.25\n7\.50\n7\.75\n$/,
  resume: new RegExp(`^missed ${formerId} to ${idOf(0)}: unknown-epoch\n(\\{"price":.*\\}\n){3}$`),
  states:
    /^connecting 1\s+open 1\s+first\nwaiting 1 ERR_SSE_NETWORK later\nconnecting 2\s+waiting 2 ERR_SSE_STATUS later\nconnecting 3\s+open 3\s+second\nclosed 3\s+$/,
  attempts: /^hello\nagain\n$/,
  refused: /^ERR_SSE_STATUS 403 17 Members only\.\n$/,
  relay: new RegExp(
    `^retry: 1000\nid: ${idOf(0)}\n\n(id: .*\nevent: tick\ndata: .*\n\n){3}event: sluice:end\ndata: {}\n\n\n$`,
  ),
  across: /^(\{"price":.*\}\n){3}$/,
  eventsource: /^7\.25\n7\.50\n7\.75\nover\nclosed\n$/,
  decode: /^sluice:ready .*\n(tick .*\n){3}sluice:end \{\}\n$/,
  llm: /^Hello\.$/,
  shell:
    /^one\ntwo\n\{"event":"message","data":"first".*\n\{"event":"message","data":"second".*\nexit code 3\n$/,
};
const inInterop = new Set(['page', 'tabs', 'cookie', 'ticket', 'proxied']);

describe('the examples of docs/client.md', () => {
  let server: TestServer;
  let folder: string;

  before(async () => {
    server = await serveExamples((_, res) => res.writeHead(404).end());
    folder = await mkdtemp(join(tmpdir(), 'sluice-'));
    // A position from a former life of the server makes it send a gap.
    const key = `sluice.position:${server.url}events?topic=prices`;
    await writeFile(join(folder, 'prices.position.json'), JSON.stringify({ [key]: formerId }));
    const command = fileURLToPath(new URL('../lib/command/bin.ts', import.meta.url));
    await writeFile(
      join(folder, 'sluice'),
      `#!/bin/sh\nexec "${process.execPath}" --import "${tsx}" "${command}" "$@"\n`,
    );
    await chmod(join(folder, 'sluice'), 0o755);
  });

  after(async () => {
    await server.close();
    await rm(folder, { recursive: true });
  });

  async function outputOf(command: string, args: string[]): Promise<string> {
    const env = { ...process.env, PATH: `${folder}${delimiter}${process.env.PATH}` };
    const child = spawn(command, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
    return out || err;
  }

  for (const [name, example] of examples) {
    if (inInterop.has(name)) continue;
    it(`${name} prints what the document promises`, async () => {
      const code = runnable(example, server.url.slice(0, -1));
      const expected = prints[name];
      assert.ok(expected, '`prints` has no entry for it');
      if (example.language === 'sh') {
        assert.match(await outputOf('sh', ['-c', code]), expected);
      } else {
        const file = join(folder, `${name}.mts`);
        await writeFile(file, code);
        assert.match(await outputOf(process.execPath, ['--import', tsx, file]), expected);
      }
    });
  }

  it('are all run, here or in test/interop', () => {
    assert.deepEqual(new Set([...Object.keys(prints), ...inInterop]), new Set(examples.keys()));
  });
});
