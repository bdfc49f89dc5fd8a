// The bench suite's command: `npm run bench [-- …]`, `npm run bench -- --help`.
//
// It installs the packages that it needs, so modules that use them are imported only after that.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { servers } from './loads/servers.ts';
import { Misuse, type Order, orderOf, type RunOptions, USAGE } from './options.ts';
import { scenarios } from './scenarios/index.ts';

interface Suite {
  runSuite(options: RunOptions, interrupted: AbortSignal): Promise<0 | 1 | 130>;
}
interface Compare {
  compare(paths: readonly [string, string], print: (line: string) => void): 0 | 1;
}

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const interruption = new AbortController();
// npm and tsx pass on a signal that the terminal sent to all, so it may come twice.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => interruption.abort(signal));

process.exitCode = await main().catch((error: unknown) => {
  if (!(error instanceof Misuse)) throw error;
  console.error(error.message);
  return 2;
});
// A scenario that did not end has processes left; `exit` listeners stop them.
process.exit();

async function main(): Promise<number> {
  const order = orderOf(process.argv.slice(2), scenarios);
  if (order.do === 'help') console.log(USAGE);
  if (order.do === 'list') list();
  return order.do === 'run' || order.do === 'compare' ? obey(order) : 0;
}

async function obey(order: Order & { do: 'run' | 'compare' }): Promise<number> {
  if (order.do === 'compare') {
    install(['bench'], true);
    const { compare } = (await import(here('./report/compare.ts'))) as Compare;
    return compare(order.reports, console.log);
  }
  install(['bench', 'bench/peers'], order.isInstalling);
  const { runSuite } = (await import(here('./report/suite.ts'))) as Suite;
  return runSuite(order, interruption.signal);
}

/**
 * Peers without their packages are skipped later.
 * @throws {Misuse} when the packages of the command are missing.
 */
function install(folders: readonly string[], isAllowed: boolean): void {
  for (const folder of folders) {
    if (existsSync(here(`../${folder}/node_modules`)) || !isAllowed) continue;
    console.error(`${folder}/node_modules is missing: npm ci --prefix ${folder}`);
    spawnSync('npm', ['ci', '--prefix', here(`../${folder}`)], { stdio: ['ignore', 'ignore', 'inherit'] });
  }
  if (!existsSync(here('./node_modules')))
    throw new Misuse('bench/node_modules is missing: npm ci --prefix bench');
}

function list(): void {
  for (const { name, shows, constant, peers, missing } of scenarios) {
    console.log(`${name}\n  shows: ${shows}\n  holds constant: ${constant}`);
    for (const peer of peers) {
      const server = servers[peer];
      const reason = missing ? missing(peer) : server ? server.missing() : 'there is no such server';
      console.log(`    ${(server?.title ?? peer).padEnd(32)} ${reason ?? ''}`);
    }
  }
}
