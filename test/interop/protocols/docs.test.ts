// Runs the example of docs/protocols.md that has no hub, and compiles all of them.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createClient } from 'graphql-sse';
import { runnable, typeErrorsIn } from '../../helpers/docs.ts';
import { protocols } from './clients.ts';
import { examples, folder, serving } from './programs.ts';

describe('the examples of docs/protocols.md', () => {
  it('graphql-pipe sends each subscriber the results of its own operation', async (t) => {
    const { url } = await serving(t, 'graphql-pipe');
    const client = createClient({ url, retryAttempts: 0 });
    const ask = async (query: string, variables = {}) => {
      const results: { data?: unknown; errors?: readonly Error[] }[] = [];
      for await (const result of client.iterate({ query, variables })) results.push(result as never);
      return results;
    };
    const results = await ask('subscription ($from: Int!) { countdown(from: $from) }', { from: 2 });
    assert.deepEqual(
      results.map(({ data }) => data),
      [{ countdown: 2 }, { countdown: 1 }, { countdown: 0 }],
    );
    const [failed] = await ask('subscription { unknown }');
    assert.match(failed!.errors![0]!.message, /unknown/);
    await assert.rejects(ask('{'), /400/);
  });

  it('compile under `strict`', async () => {
    const files: string[] = [];
    for (const [name, example] of examples) {
      if (example.language !== 'ts') continue;
      const file = join(folder, `types-${name}.mts`);
      writeFileSync(file, runnable(example, 'http://localhost:8080'));
      files.push(file);
    }
    assert.equal(await typeErrorsIn(join(folder, 'tsconfig.json'), files), '');
  });

  it('are all run, here or with their clients', () => {
    const run = Object.values(protocols).flatMap(({ program }) => [program, `${program}-page`]);
    assert.deepEqual(
      [...examples.keys()].filter((name) => !run.includes(name)),
      ['graphql-pipe'],
    );
  });

  it('name the versions of the clients that the tests run', () => {
    const page = readFileSync(new URL('../../../docs/protocols.md', import.meta.url), 'utf8');
    const manifest = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8'));
    const clients = Object.entries<string>(manifest.dependencies).filter(([name]) => !HELPERS.includes(name));
    for (const [name, version] of clients) {
      const number = version.slice(version.lastIndexOf('@') + 1);
      assert.match(
        page.replaceAll('\n', ' '),
        new RegExp(`\`${name}\` (\\(.*?)?${number.replaceAll('.', '\\.')}`),
        name,
      );
    }
  });
});

/** What servers and tests need beside the clients. */
const HELPERS = ['@trpc/server', 'eventsource', 'graphql'];
