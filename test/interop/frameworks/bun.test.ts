import { fileURLToPath } from 'node:url';
import { startRecipe } from './host.ts';
import { describeHost } from './suite.ts';

const program = fileURLToPath(new URL('node_modules/.bin/bun', import.meta.url));

describeHost('Bun', () => startRecipe({ page: 'bun', example: 'bun', command: [program] }));
describeHost('node:http of Bun', () => startRecipe({ page: 'http', example: 'http', command: [program] }));
