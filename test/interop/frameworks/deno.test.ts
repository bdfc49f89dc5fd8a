import { fileURLToPath } from 'node:url';
import { startRecipe } from './host.ts';
import { describeHost } from './suite.ts';

const program = fileURLToPath(new URL('node_modules/.bin/deno', import.meta.url));

describeHost('Deno', () =>
  startRecipe({ page: 'deno', example: 'deno', command: [program, 'run', '--allow-all'] }),
);
describeHost('node:http of Deno', () =>
  startRecipe({ page: 'http', example: 'http', command: [program, 'run', '--allow-all'] }),
);
