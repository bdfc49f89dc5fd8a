// The two commands of a reader as a program, for examples that call them from a shell.
import { publish } from '../../lib/command/publish.ts';
import { tail } from '../../lib/command/tail.ts';

const [name, ...argv] = process.argv.slice(2);
process.exitCode = await (name === 'tail' ? tail : publish)(argv, process);
