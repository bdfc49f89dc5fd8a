import uws, { type HttpResponse } from 'uwebsockets';
import type { StartPeer } from './peer.ts';

/** All texts of a call in one corked write to each response. The application keeps the set of responses. */
const start: StartPeer = async ({ tokens }) => {
  const topics = new Map<string, Set<HttpResponse>>();
  const open = (res: HttpResponse) =>
    res.writeHeader('Content-Type', 'text/event-stream').writeHeader('Cache-Control', 'no-cache');
  const app = uws.App();
  app.get('/events', (res, req) => {
    const topic = req.getQuery('topic') ?? '';
    const responses = topics.get(topic) ?? new Set();
    topics.set(topic, responses.add(res));
    res.onAborted(() => void responses.delete(res));
    open(res).write(':\n\n');
  });
  app.post('/answer', async (res) => {
    let isAborted = false;
    res.onAborted(() => {
      isAborted = true;
    });
    open(res);
    for await (const token of tokens()) {
      if (isAborted) return;
      res.cork(() => res.write(`data: ${token}\n\n`));
    }
    if (!isAborted) res.cork(() => res.end());
  });
  const port = await new Promise<number>((resolve) => {
    app.listen('127.0.0.1', 0, (socket) => void (socket && resolve(uws.us_socket_local_port(socket))));
  });
  const publish = (topic: string, texts: readonly string[]): void => {
    const batch = texts.map((text) => `data: ${text}\n\n`).join('');
    for (const res of topics.get(topic) ?? []) res.cork(() => res.write(batch));
  };
  return { port, publish };
};

export default start;
