import { startRecipe } from './host.ts';
import { describeHost } from './suite.ts';

describeHost('Hono', () => startRecipe({ page: 'hono', example: 'hono' }));
