import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { http1 } from './clients.ts';
import { startRecipe } from './host.ts';
import { describeHost } from './suite.ts';

const EXPRESS_4 = { express: 'express4' };

const recipe = { page: 'express', example: 'express' };
describeHost('Express 5', () => startRecipe(recipe));
describeHost('Express 4', () => startRecipe({ ...recipe, packages: EXPRESS_4 }));

describe('a route of Express', () => {
  for (const packages of [{}, EXPRESS_4]) {
    it(`names the topic, in a router of ${Object.values(packages)[0] ?? 'express'}`, async (t) => {
      const host = await startRecipe({ page: 'express', example: 'rooms', path: '/rooms', packages });
      t.after(host.close);
      const reader = (await http1(`${host.url}/a`)).read();
      await reader.until(({ frames }) => frames.length > 0);
      await host.hub.publish('b', 'for others');
      await host.hub.publish('a', 'for this room');
      await reader.until(({ data }) => data.length > 0);
      assert.deepEqual(reader.data, ['for this room']);
      reader.close();
    });
  }
});
