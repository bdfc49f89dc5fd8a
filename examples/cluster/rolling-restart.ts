// Restarts the servers of a cluster that start.ts runs, one after another, without a hole for any reader.
// Needs `state.ts` beside it.
//
//   npx tsx examples/cluster/rolling-restart.ts [--folder FOLDER]

import { parseArgs } from 'node:util';
import { askHaproxy, DEFAULT_FOLDER, NAMES, type Name, readState, until } from './state.ts';

const { values } = parseArgs({ options: { folder: { type: 'string', default: DEFAULT_FOLDER } } });
const { folder } = values;

for (const name of NAMES) await restart(name);

async function restart(name: Name): Promise<void> {
  const pid = readState(folder)[name];
  if (pid === undefined) throw new Error(`server ${name} does not run`);
  console.log(`${name}: ends its streams`);
  process.kill(pid, 'SIGTERM');
  // start.ts starts it again, as a service manager would.
  await until(`server ${name} has ended and runs again`, () => readState(folder)[name] !== pid);
  await until(`HAProxy sees server ${name}`, async () => (await askHaproxy(folder)).get(name)?.isUp === true);
  // The clients that were sent away need not be back: the next server sends its own away just as slowly.
  console.log(`${name}: is back`);
}
