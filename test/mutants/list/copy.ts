// Faults in what `sluice copy` writes over, and in what it says of copies.

import { type Mutant, mutantsOf } from '../mutant.ts';

export const copy: readonly Mutant[] = [
  ...mutantsOf(
    'command/copy.ts',
    ['command/copy'],
    [
      {
        find: "copied.isChanged ? 'a changed copy' : 'a copy'",
        replace: "'a copy'",
        why: 'what somebody changed in a copy is lost with the next one',
      },
      {
        find: 'obstacles.length > 0 && !force',
        replace: 'obstacles.length > 1 && !force',
        why: 'a file of the project is written over',
      },
      {
        find: 'hashOf(installed) !== hash',
        replace: 'header.version !== library.version',
        why: 'a copy counts as outdated although no version changed it',
      },
      {
        find: 'return differing === 0 ? 0 : 1',
        replace: 'return 0',
        why: 'a continuous integration does not notice copies that differ',
      },
    ],
  ),
  ...mutantsOf(
    'command/copy-header.ts',
    ['command/copy'],
    [
      {
        find: "written.replaceAll('\\r\\n', '\\n')",
        replace: 'written',
        why: 'on Windows, where git changes line ends, each copy counts as changed',
      },
    ],
  ),
  ...mutantsOf(
    'command/copy-library.ts',
    ['command/copy'],
    [
      {
        find: 'for (const one of met)',
        replace: 'for (const one of [...met])',
        why: 'what the needed modules need is not copied',
      },
    ],
  ),
];
