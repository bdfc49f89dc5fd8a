import { startRecipe } from './host.ts';
import { describeHost } from './suite.ts';

describeHost('Fastify 5', () => startRecipe({ page: 'fastify', example: 'fastify' }));
