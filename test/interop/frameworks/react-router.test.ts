// Builds an application of React Router from the recipe, with a page as every application has one, and serves it.

import { after, before } from 'node:test';
import { BuiltApp, exposing, tsconfigFor } from './built.ts';
import { describeHost } from './suite.ts';

const ROOT = `import { Outlet, Scripts } from 'react-router';

export default function Root() {
  return <html lang="en"><body><Outlet /><Scripts /></body></html>;
}
`;

const VITE = `import { reactRouter } from '@react-router/dev/vite';

export default { plugins: [reactRouter()] };
`;

const app = new BuiltApp({
  'app/hub.server.ts': { page: 'react-router', example: 'hub', added: exposing('../../control') },
  'app/routes/events.ts': { page: 'react-router', example: 'route' },
  'app/routes.ts': { page: 'react-router', example: 'routes' },
  'app/root.tsx': { text: ROOT },
  'vite.config.ts': { text: VITE },
  'tsconfig.json': tsconfigFor(['app'], { jsx: 'react-jsx' }),
  'package.json': {
    text: '{ "type": "module", "dependencies": { "@react-router/node": "7", "isbot": "5" } }',
  },
});

before(async () => {
  await app.build('@react-router/dev/bin.js', 'build');
  await app.check();
});
after(() => app.remove());

describeHost('React Router', () =>
  app.start('/events', '@react-router/serve/bin.js', 'build/server/index.js'),
);
