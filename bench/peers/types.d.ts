// What the adapter uses of it: the package brings no types.

declare module 'sse-channel' {
  import type { IncomingMessage, ServerResponse } from 'node:http';

  export default class SseChannel {
    addClient(req: IncomingMessage, res: ServerResponse): void;
    send(message: string, clients?: ServerResponse[]): void;
  }
}
