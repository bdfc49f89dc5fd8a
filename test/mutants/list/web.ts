// Faults in streams for hosts of Request and Response: web, and shutdown where there is no server.

import { type Mutant, mutantsOf } from '../mutant.ts';

export const web: readonly Mutant[] = [
  ...mutantsOf(
    'web.ts',
    ['web'],
    [
      {
        find: 'stream.write(FIRST);',
        replace: '',
        why: 'a client gets no head of a response before its source yields',
      },
      {
        find: "this.#signal?.removeEventListener('abort', this.#left);",
        replace: '',
        why: 'each stream leaves a listener on a signal that outlives it',
      },
      {
        find: 'this.#needsDrain = true;\n    return false;',
        replace: 'this.#needsDrain = true;\n    return true;',
        why: 'all that a hub publishes is held for a client that does not read',
      },
      {
        find: 'cancel: () => this.#close(),',
        replace: '',
        why: 'the stream of a client that has left stays open where a host only cancels the body',
      },
      {
        find: "else this.#signal?.addEventListener('abort', this.#left);",
        replace: '',
        why: 'the stream of a client that has left stays open where a host only aborts the request',
      },
      {
        find: 'if (this.writableEnded) this.#finish();\n    else ',
        replace: '',
        why: 'a body that was read to its end never ends',
      },
      {
        find: 'this.#respond(null, CLIENT_GONE);',
        replace: '',
        why: 'the handler of a client that has left never settles',
      },
      {
        find: "this.#controller?.error(Object.assign(error, { code: 'ERR_SSE_CLOSED' }));",
        replace: 'closeQuietly(this.#controller);',
        why: 'a stream that was cut looks complete',
      },
      {
        find: 'copy.set(chunk, at);\n    at += chunk.length;\n  }\n  return copy;',
        replace:
          'copy.set(chunk, at);\n    at += chunk.length;\n  }\n  return chunks.length === 1 ? chunks[0]! : copy;',
        why: 'a host that transfers what it reads takes the history from all readers of a hub',
      },
      {
        find: 'this.#hasResponded && chunk !== undefined',
        replace: 'false',
        why: 'the last bytes of a handler are lost',
      },
      {
        find: '    const response = new Response(body as ReadableStream | null, { status, headers: this.#headers });\n    this.#hasResponded = true;',
        replace:
          '    this.#hasResponded = true;\n    const response = new Response(body as ReadableStream | null, { status, headers: this.#headers });',
        why: 'a request whose answer cannot be sent is never answered',
      },
      {
        find: 'checkSource(source);\n  stream.write(FIRST);',
        replace: 'stream.write(FIRST);',
        why: 'a function that returns no source is answered 200',
      },
      {
        find: 'signal === request.signal ? undefined : signal',
        replace: 'undefined',
        why: 'a program that stops cannot end the streams of a hub by its signal',
      },
    ],
  ),
  ...mutantsOf(
    'shutdown.ts',
    [{ in: 'shutdown', only: 'without a server' }, 'web'],
    [
      {
        find: 'return [...this.#streams].every(isOver);',
        replace: 'return true;',
        why: 'a program without a server exits before the last bytes of its streams are read',
      },
      {
        find: "for (const stream of open) this.attempt(() => stream.abort?.('shutdown'));",
        replace: '',
        why: 'streams whose clients do not read outlive the deadline',
      },
    ],
  ),
];
