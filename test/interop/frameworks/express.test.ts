import { startRecipe } from './host.ts';
import { describeHost } from './suite.ts';

const recipe = { page: 'express', example: 'express' };
describeHost('Express 5', () => startRecipe(recipe));
describeHost('Express 4', () => startRecipe({ ...recipe, packages: { express: 'express4' } }));
