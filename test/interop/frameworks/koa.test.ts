import { startRecipe } from './host.ts';
import { describeHost } from './suite.ts';

describeHost('Koa 3', () => startRecipe({ page: 'koa', example: 'koa' }));
