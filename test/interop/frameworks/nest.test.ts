import assert from 'node:assert/strict';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { http1 } from './clients.ts';
import { startRecipe } from './host.ts';
import { describeHost } from './suite.ts';

describeHost('NestJS 12', () => startRecipe({ page: 'nest', example: 'nest' }), {
  more(running) {
    it('lets a guard refuse the request', async () => {
      const { status, leave } = await http1(`${running().url}?topic=a`, { 'user-agent': 'banned' });
      assert.equal(status, 403);
      leave();
    });

    it('shows an interceptor the end of the stream', { timeout: 10_000 }, async () => {
      const { lines, url } = running();
      const ends = (): number => lines.filter((line) => line.startsWith('stream open for')).length;
      const { leave } = await http1(`${url}?topic=a`);
      const before = ends();
      leave();
      while (ends() === before) await sleep(10);
    });
  },
});
