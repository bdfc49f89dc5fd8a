import { startRecipe } from './host.ts';
import { describeHost } from './suite.ts';

describeHost('h3 2', () => startRecipe({ page: 'h3', example: 'h3' }));
