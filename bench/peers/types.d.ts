// The package has no types; these are the members that the adapter uses.

declare module 'sse-channel' {
  import type { IncomingMessage, ServerResponse } from 'node:http';

  export default class SseChannel {
    addClient(req: IncomingMessage, res: ServerResponse): void;
    send(message: string, clients?: ServerResponse[]): void;
  }
}
