// Answers for one client in each framework: the programs of docs/recipes/answers.md.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import http, { type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { here } from '../../helpers/docs.ts';
import { freePort } from '../../helpers/free-port.ts';
import { Reader } from '../../helpers/reader.ts';
import { accepts, type Host, hostOf, makeProject, recipe } from './host.ts';
import { BROWSER, ORIGIN, UNWANTED } from './suite.ts';

interface Program {
  readonly page: string;
  readonly example: string;
  readonly packages?: Readonly<Record<string, string>>;
  /** The body of a request that asks a question; by default JSON. */
  readonly body?: (question: string) => string;
  /** Bodies that the program, or what parses for it, refuses, and the status. */
  readonly bad?: readonly (readonly [body: string, status: number])[];
}

async function startAnswers({ page, example, packages = {} }: Program): Promise<Omit<Host, 'hub'>> {
  const port = await freePort();
  const folder = makeProject();
  const file = join(folder, 'server.ts');
  let code = here(recipe(page, example)).replaceAll('8080', String(port));
  for (const [name, instead] of Object.entries(packages)) code = code.replaceAll(`'${name}'`, `'${instead}'`);
  writeFileSync(file, code);
  const args = ['--import', import.meta.resolve('tsx'), file];
  const child = spawn(process.execPath, args, { cwd: folder, env: { ...process.env, NO_COLOR: '1' } });
  const cleanUp = (): void => rmSync(folder, { recursive: true, force: true });
  // Nothing asks for a hub: there is none.
  const host = hostOf(child, `http://127.0.0.1:${port}/answers`, undefined as never, cleanUp);
  const ended = once(child, 'exit').then(() => assert.fail(host.lines.join('\n')));
  ended.catch(() => {});
  await Promise.race([accepts(port), ended]);
  return host;
}

function describeAnswers(name: string, program: Program): void {
  const { body = (question) => JSON.stringify({ question }), bad = BAD } = program;
  describe(`an answer in ${name}`, { timeout: 60_000 }, () => {
    let host: Omit<Host, 'hub'>;
    before(async () => {
      host = await startAnswers(program);
    });
    after(() => host?.close());

    async function post(text: string): Promise<IncomingMessage> {
      const headers = { ...BROWSER, 'content-type': 'application/json' };
      const asking = http.request(host.url, { method: 'POST', agent: false, headers }).end(text);
      const [response] = (await once(asking, 'response')) as [IncomingMessage];
      return response;
    }

    it('is what the source yields, then the end, under the headers of the framework', async () => {
      const response = await post(body('a stream of events'));
      assert.equal(response.statusCode, 200);
      assert.equal(response.headers['access-control-allow-origin'], ORIGIN);
      assert.equal(response.headers['content-encoding'], undefined);
      const reader = new Reader(response);
      await reader.over;
      assert.deepEqual(
        reader.frames.map(({ event, data }) => `${event} ${data}`),
        ['token a', 'token stream', 'token of', 'token events', 'sluice:end {}'],
      );
      assert.equal(response.complete, true);
    });

    it('comes token by token, and stops when its client leaves', { timeout: 10_000 }, async () => {
      // More than comes within the time of this test.
      const reader = new Reader(await post(body('again '.repeat(1000))));
      await reader.until(({ frames }) => frames.length > 0);
      reader.close();
      while (!host.lines.includes('client-gone')) await sleep(10);
    });

    it('leaves no error and no warning in the log', () => {
      assert.deepEqual(
        host.lines.filter((line) => UNWANTED.test(line)),
        [],
      );
    });

    it('is a status where the request has no question', { timeout: 10_000 }, async () => {
      for (const [text, status] of bad) {
        const response = await post(text);
        assert.equal(response.statusCode, status, text);
        assert.doesNotMatch(String(response.headers['content-type']), /event-stream/);
        response.resume();
      }
    });

    it('completes when the program is stopped', { timeout: 20_000 }, async () => {
      const reader = new Reader(await post(body('one two three four five six seven eight nine ten')));
      await reader.until(({ frames }) => frames.length > 0);
      const stopped = host.stop();
      await reader.over;
      assert.equal(reader.frames.length, 11);
      assert.equal(reader.frames.at(-1)?.event, 'sluice:end');
      assert.deepEqual(await stopped, { code: 0, signal: null });
    });
  });
}

const BAD = ['{', '', 'null', '{}', '{"question":{}}'].map((body) => [body, 400] as const);

const express = { page: 'answers', example: 'express' };
describeAnswers('Express 5', express);
describeAnswers('Express 4', { ...express, packages: { express: 'express4' } });
describeAnswers('Fastify 5', { page: 'answers', example: 'fastify' });
describeAnswers('Koa 3', {
  ...{ page: 'answers', example: 'koa' },
  body: (question) => question,
  bad: [['x'.repeat(64 * 1024 + 1), 413]],
});
describeAnswers('NestJS 12', { page: 'answers', example: 'nest' });
describeAnswers('Hono', { page: 'answers', example: 'hono' });
describeAnswers('h3 2', { page: 'answers', example: 'h3' });
