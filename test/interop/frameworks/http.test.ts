import { http1, overHttp2 } from './clients.ts';
import { startRecipe } from './host.ts';
import { describeHost } from './suite.ts';

describeHost('node:http', () => startRecipe({ page: 'http', example: 'http' }));
describeHost('node:https', () => startRecipe({ page: 'http', example: 'https', scheme: 'https' }));

const http2 = { page: 'http2', example: 'http2', scheme: 'https' } as const;
describeHost('node:http2 with TLS', () => startRecipe(http2), { client: overHttp2 });
describeHost('node:http2, for a client of HTTP/1.1', () => startRecipe(http2), { client: http1 });
describeHost('node:http2 without TLS', () => startRecipe({ page: 'http2', example: 'h2c' }), {
  client: overHttp2,
});
