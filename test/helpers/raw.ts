// Clients that say anything, byte by byte.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { Reading } from './reader.ts';
import type { Cleanup } from './server.ts';

/**
 * A connection on which a test may say anything, until the test is over. It reads nothing unless asked to.
 */
export async function dial(t: Cleanup, port: number): Promise<Socket> {
  // Half-open, so that it is the server's answer to an end that is seen, and not our own.
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => {});
  await once(socket, 'connect');
  t.after(() => socket.destroy());
  return socket;
}

/** The same over TLS, after the handshake. It trusts any certificate. */
export async function dialTls(t: Cleanup, port: number): Promise<Socket> {
  const socket = connectTls({ socket: await dial(t, port), rejectUnauthorized: false });
  socket.on('error', () => {});
  await once(socket, 'secureConnect');
  return socket;
}

/** Sends a request and reads what comes. */
export function ask(socket: Socket, ...lines: string[]): Reading {
  const reading = new Reading(socket);
  socket.write(request(...lines));
  return reading;
}

/** The text of a request without a body: its lines, by default `GET /` and a host. */
export function request(first: string = 'GET / HTTP/1.1', ...headers: string[]): string {
  return [first, 'Host: localhost', ...headers, '', ''].join('\r\n');
}

export interface RawResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Sends exactly these lines as a request's head and reads until the server closes. */
export async function raw(port: number, ...lines: string[]): Promise<RawResponse> {
  const socket = connect(port, '127.0.0.1');
  socket.write(`${lines.join('\r\n')}\r\nConnection: close\r\n\r\n`, 'latin1');
  return parseResponse(await readAll(socket));
}

export async function readAll(socket: Socket): Promise<string> {
  let text = '';
  for await (const chunk of socket.setEncoding('latin1')) text += chunk;
  return text;
}

function parseResponse(text: string): RawResponse {
  const [head = '', ...rest] = text.split('\r\n\r\n');
  const [start = '', ...lines] = head.split('\r\n');
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const [name = '', value = ''] = line.split(/: (.*)/);
    const key = name.toLowerCase();
    headers[key] = key in headers ? `${headers[key]}, ${value}` : value;
  }
  return { status: Number(start.split(' ')[1]), headers, body: rest.join('\r\n\r\n') };
}
