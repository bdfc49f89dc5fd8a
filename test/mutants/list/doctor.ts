// Faults in what `sluice doctor` concludes.

import { type Mutant, mutantsOf } from '../mutant.ts';

export const doctor: readonly Mutant[] = [
  ...mutantsOf(
    'command/doctor-flow.ts',
    [{ in: 'command/doctor', only: 'heartbeats that were held back' }],
    [
      {
        find: 'beats >= 2 && events === 0',
        replace: 'beats >= 1 && events === 0',
        why: 'heartbeats that arrive one by one are taken for held back',
      },
      {
        find: 'events + beats === 1',
        replace: 'events + beats >= 1',
        why: 'a buffer that is flushed again and again is taken for none',
        tests: [{ in: 'command/doctor', only: 'sends small batches' }],
      },
      {
        find: 'if (clumps.length >= 2) {',
        replace: 'if (clumps.length >= 200) {',
        why: 'heartbeats that arrive together are no sign of a buffer',
      },
      {
        find: 'one.began + (at ?? one.age) >',
        replace: 'one.began + (at ?? 0) >',
        why: 'compression that holds everything back is not recognised',
        tests: [{ in: 'command/doctor', only: 'tells compression that holds' }],
      },
    ],
  ),
  ...mutantsOf(
    'command/doctor-resume.ts',
    [{ in: 'command/doctor', only: 'recognises a server that' }],
    [
      {
        find: 'if (got.includes(from)) {',
        replace: 'if (got.includes("")) {',
        why: 'a server that sends the last event again is taken for one that resumes',
      },
      {
        find: 'skipped === -1 || skipped >= missed',
        replace: 'skipped >= missed',
        why: 'a server that begins with the newest event is taken for one that has a hole',
      },
    ],
  ),
  ...mutantsOf(
    'command/doctor-cors.ts',
    [{ in: 'command/doctor', only: 'asks whether a page may send' }],
    [
      {
        find: "(!allowsAll || name === 'authorization')",
        replace: '!allowsAll',
        why: 'a star is taken for leave to send Authorization',
      },
    ],
  ),
];
