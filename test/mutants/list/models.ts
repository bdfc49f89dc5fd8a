// Faults in the dialects of language models, and in the members of `pipe` that they use.

import { type Mutant, mutantsOf } from '../mutant.ts';

export const models: readonly Mutant[] = [
  ...mutantsOf(
    'pipe.ts',
    ['pipe'],
    [
      {
        find: "typeof end === 'function' ? end() : end",
        replace: "typeof end === 'function' ? [] : end",
        why: 'an answer that was cut off looks whole',
      },
      {
        find: 'const end = () => encodeText(whole.end());',
        replace: "const end = () => '';",
        why: 'half a character at the end is lost in silence',
      },
    ],
  ),
  ...mutantsOf(
    'openai-chat.ts',
    ['openai-chat'],
    [
      {
        find: '!isCut && finished.size > 0',
        replace: 'true',
        why: 'an answer that was cut off ends with `[DONE]`',
      },
      {
        find: '!isCut && finished.size > 0',
        replace: 'finished.size > 0',
        why: 'of several choices, only one has to be whole',
      },
      {
        find: 'if (isFailure(value)) {',
        replace: 'if (false) {',
        why: 'the error of the API is followed by `[DONE]`',
      },
      {
        find: 'jsonOf(() => failure) ??',
        replace: '',
        why: 'the reader does not get the error that the API has sent',
      },
      {
        find: "if (kind === 'over') throw",
        replace: 'if (false) throw',
        why: 'a dialect that is used twice takes the end of one answer for that of another',
      },
    ],
  ),
  ...mutantsOf(
    'openai-responses.ts',
    ['openai-responses'],
    [
      {
        find: 'if (isFinished) return [];',
        replace: 'return [];',
        why: 'an answer that was cut off looks whole',
      },
      {
        find: "type === 'response.failed' ||",
        replace: '',
        why: 'a response that has failed is told a second error',
      },
      {
        find: 'if (isFinished) return null;',
        replace: '',
        why: 'a reader that has the whole answer gets an error after it',
      },
      {
        find: 'sequence = sequence_number;',
        replace: '',
        why: 'an error has the number of an earlier event',
      },
    ],
  ),
  ...mutantsOf(
    'anthropic.ts',
    ['anthropic'],
    [
      {
        find: 'if (isFinished) return [];',
        replace: 'return [];',
        why: 'an answer that was cut off looks whole',
      },
      { find: "if (type === 'error') {", replace: 'if (false) {', why: 'a reader gets two errors' },
      {
        find: 'if (isFinished) return null;',
        replace: '',
        why: 'a reader that has the whole answer gets an error after it',
      },
    ],
  ),
  ...mutantsOf(
    'ai-sdk.ts',
    ['ai-sdk'],
    [
      {
        find: 'if (isFinished) return [DONE];',
        replace: 'return [DONE];',
        why: 'an answer that was cut off looks whole',
      },
      { find: "if (type === 'error') {", replace: 'if (false) {', why: 'an error is followed by `finish`' },
      {
        find: " || type === 'abort'",
        replace: '',
        why: 'an answer that was stopped is told as one that failed',
      },
    ],
  ),
];
