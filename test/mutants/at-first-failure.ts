// Loaded before the tests of a mutant, so that one that fails ends soon: nobody reads how it has failed.

import assert from 'node:assert/strict';
import fc from 'fast-check';

// Shrinking an example takes longer than finding it.
fc.configureGlobal({ ...fc.readConfigureGlobal(), endOnFailure: true });

// Without a message, Node looks for the expression in the source. That takes ten seconds and more for a file that
// tsx has put on one line.
const { ok } = assert;
assert.ok = (value: unknown, message: string | Error = 'it is not so'): asserts value => ok(value, message);
