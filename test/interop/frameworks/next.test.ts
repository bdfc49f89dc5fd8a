// Builds an application of Next.js from the recipe, and starts it once for each of its two routes.

import { after, before, it } from 'node:test';
import { BuiltApp, exposing, frameworks } from './built.ts';
import { http1 } from './clients.ts';
import { describeHost } from './suite.ts';

const program = 'next/dist/bin/next';
const turbopack = `config.turbopack = { root: ${JSON.stringify(frameworks)} };`;
const app = new BuiltApp(
  {
    'hub.ts': { page: 'next', example: 'hub', added: exposing('../control') },
    'app/events/route.ts': { page: 'next', example: 'route' },
    'pages/api/events.ts': { page: 'next', example: 'pages' },
    'next.config.ts': { page: 'next', example: 'config', added: turbopack },
    'package.json': { text: '{ "type": "module" }' },
    'tsconfig.json': { text: '{ "compilerOptions": { "strict": true, "skipLibCheck": true } }' },
  },
  { NEXT_TELEMETRY_DISABLED: '1' },
);

// Checks the types as well.
before(() => app.build(program, 'build'));
after(() => app.remove());

const start = (path: string) => app.start(path, program, 'start', '-H', '127.0.0.1', '-p', '{port}');

// 128 and the number of SIGTERM, as shells write it.
const exitCode = 143;

describeHost('Next.js, a route handler', () => start('/events'), {
  exitCode,
  more(running) {
    it('has one hub for both routers, which have a copy each of the module', async () => {
      const { url, hub } = running();
      const answers = [
        await http1(`${url}?topic=both`),
        await http1(`${new URL(url).origin}/api/events?topic=both`),
      ];
      const readers = answers.map(({ read }) => read());
      for (const reader of readers) await reader.until(({ frames }) => frames.length > 0);
      await hub.publish('both', 'to both');
      for (const reader of readers) await reader.until(({ data }) => data.includes('to both'));
      for (const { leave } of answers) leave();
    });
  },
});
describeHost('Next.js, the pages API', () => start('/api/events'), { exitCode });
