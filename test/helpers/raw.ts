import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Reading } from './reader.ts';
import type { Cleanup } from './serve.ts';

/** A connection on which a test may say anything, until the test is over. It reads nothing unless asked to. */
export async function dial(t: Cleanup, port: number): Promise<Socket> {
  // Half-open, so that it is the server's answer to an end that is seen, and not our own.
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => {});
  await once(socket, 'connect');
  t.after(() => socket.destroy());
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
