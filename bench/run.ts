// Runs every bench in this folder, one after the other, each in a process of its own. `npm run bench [-- NAME …]`

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';

const wanted = process.argv.slice(2);
const names = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith('.bench.ts'))
  .map((file) => file.slice(0, -'.bench.ts'.length))
  .filter((name) => wanted.length === 0 || wanted.includes(name));

for (const name of wanted) {
  if (names.includes(name)) continue;
  console.error(`there is no bench "${name}"`);
  process.exitCode = 2;
}

for (const name of names) {
  console.log(`\n# ${name}`);
  const args = ['--expose-gc', '--import', 'tsx', `${import.meta.dirname}/${name}.bench.ts`];
  const { status } = spawnSync(process.execPath, args, { stdio: 'inherit' });
  if (status !== 0) process.exitCode = 1;
}
