// Faults in events that are defined by schemas: where they are checked, published and read.

import { type Mutant, mutantsOf } from '../mutant.ts';

const HUB = { in: 'schema', only: 'a hub with schemas' };
const READER = { in: 'schema', only: 'connect with schemas' };

export const schema: readonly Mutant[] = [
  ...mutantsOf(
    'schema.ts',
    [{ in: 'schema', only: 'defineEvents' }],
    [
      {
        find: 'if (!result.issues) return',
        replace: 'if (result) return',
        why: 'what a schema refuses is published and read',
      },
      {
        find: 'result.then(undefined, () => {}); // or',
        replace: '// or',
        why: 'a schema that validates asynchronously and refuses ends the process',
      },
      {
        find: "short(String(message ?? 'does not fit'))",
        replace: 'String(message)',
        why: 'a sender decides how long an error is, and what a terminal does with it',
      },
    ],
  ),
  ...mutantsOf(
    'hub-event.ts',
    [HUB],
    [
      {
        find: 'const text = data ?? jsonText(json);',
        replace: 'const text = data;',
        why: 'a hub checks text alone, and publishes any JSON',
      },
      {
        find: "checks.parse(type || 'message', text)",
        replace: 'if (type) checks.parse(type, text)',
        why: 'an event without a type is not checked',
      },
    ],
  ),
  ...mutantsOf(
    'client.ts',
    [READER],
    [
      {
        find: 'this.#newest = newest;',
        replace: '',
        why: 'an event that did not fit is skipped in silence where its application retries',
      },
      {
        find: 'await this.#beforeClose(() => onInvalid(failure, event));',
        replace: 'onInvalid(failure, event);',
        why: 'newer events are processed while the application still handles one that does not fit',
      },
      {
        find: 'isWanted && (events === undefined || !isControl)',
        replace: 'isWanted',
        why: '`isLast` gets an event of another type than its own says',
      },
    ],
  ),
];
