import { type ClientHttp2Session, connect } from 'node:http2';
import type { AddressInfo, Server } from 'node:net';
import type { Cleanup } from './server.ts';

/** An HTTP/2 session with a server that listens, until the test is over. It trusts any certificate. */
export function session(t: Cleanup, server: Server): ClientHttp2Session {
  const scheme = 'setSecureContext' in server ? 'https' : 'http';
  const { port } = server.address() as AddressInfo;
  const client = connect(`${scheme}://127.0.0.1:${port}`, { rejectUnauthorized: false });
  t.after(() => client.destroy());
  return client.on('error', () => {});
}
