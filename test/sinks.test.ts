import { once } from 'node:events';
import { createServer as createHttp2Server } from 'node:http2';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { PassThrough, type Readable } from 'node:stream';
import { openStream } from '../lib/stream.ts';
import { describeSink } from './contracts/sink.ts';
import { session } from './helpers/http2.ts';
import { dial, request } from './helpers/raw.ts';
import { listen } from './helpers/server.ts';
import { exchanging } from './helpers/streaming.ts';

// The connection closes after the response.
const LAST = request('GET / HTTP/1.1', 'Connection: close');

/** Counts the dots in a response's body, and so leaves out its head and the sizes of its chunks. */
const dots = (source: Readable) => async (): Promise<number> => {
  let count = 0;
  source.on('data', (piece: Buffer) => {
    // The head has dots too; chunk sizes have none.
    const headEnd = piece.subarray(0, 5).equals(Buffer.from('HTTP/')) ? piece.indexOf('\r\n\r\n') : 0;
    for (const byte of piece.subarray(headEnd)) if (byte === 0x2e) count++;
  });
  await Promise.race([once(source, 'end'), once(source, 'close')]);
  return count;
};

describeSink('our stream', async (t) => {
  const { req, res, client } = await exchanging(t, LAST);
  const sink = openStream(req, res, { maxBufferedBytes: Infinity });
  return { sink, readAll: dots(client), leave: () => client.destroy() };
});

describeSink('a bare ServerResponse', async (t) => {
  const { res, client } = await exchanging(t, LAST);
  return { sink: res, readAll: dots(client), leave: () => client.resetAndDestroy() };
});

describeSink('our stream over HTTP/2', async (t) => {
  const server = createHttp2Server();
  const asked = once(server, 'request');
  await listen(t, server);
  const client = session(t, server).request({ ':path': '/' });
  const [req, res] = await asked;
  const sink = openStream(req, res, { maxBufferedBytes: Infinity });
  return { sink, readAll: dots(client), leave: () => client.close(8) };
});

describeSink('a socket', async (t) => {
  const server = createTcpServer();
  const connected = once(server, 'connection') as Promise<[Socket]>;
  const client = await dial(t, await listen(t, server));
  const [sink] = await connected;
  // A socket closes when both ends have ended, and this client does not end by itself.
  client.on('end', () => client.end());
  sink.resume();
  sink.on('error', () => {});
  return { sink, readAll: dots(client), leave: () => client.resetAndDestroy() };
});

describeSink('a PassThrough', async () => {
  const sink = new PassThrough();
  return { sink, readAll: dots(sink), leave: () => sink.destroy() };
});
