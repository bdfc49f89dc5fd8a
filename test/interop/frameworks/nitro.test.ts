// Builds an application of Nitro from the recipe, and starts the server that this makes.

import { after, before } from 'node:test';
import { BuiltApp, exposing, tsconfigFor } from './built.ts';
import { describeHost } from './suite.ts';

const app = new BuiltApp({
  'hub.ts': { page: 'nitro', example: 'hub', added: exposing('../control') },
  'routes/events.ts': { page: 'nitro', example: 'route' },
  'nitro.config.ts': { page: 'nitro', example: 'config' },
  'package.json': { text: '{ "type": "module" }' },
  'tsconfig.json': tsconfigFor(['hub.ts', 'routes', 'nitro.config.ts']),
});

before(async () => {
  await app.build('nitro/dist/cli/index.mjs', 'build');
  await app.check();
});
after(() => app.remove());

describeHost('Nitro 3', () => app.start('/events', undefined, '.output/server/index.mjs'));
