// Builds an application of Next.js from the recipe, and starts it once for each of its two routes.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { accepts, freePort, type Host, hostOf, openControl, recipe } from './host.ts';
import { describeHost } from './suite.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const frameworks = fileURLToPath(new URL('.', import.meta.url));
const program = join(frameworks, 'node_modules/next/dist/bin/next');
const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1', NO_COLOR: '1' };

/** The files of the recipe. */
const FILES = [
  { file: 'hub.ts', page: 'next', example: 'hub' },
  { file: 'app/events/route.ts', page: 'next', example: 'route' },
  { file: 'pages/api/events.ts', page: 'next', example: 'pages' },
  { file: 'next.config.ts', page: 'next', example: 'config' },
] as const;

/** What the suite adds to them. The build loads `hub.ts` as well, with no test to connect to. */
const ADDED: Readonly<Record<string, string>> = {
  'hub.ts': `import { expose } from '../control';
    if (process.env.SUITE_PORT !== undefined) expose({ hub, streams: events.streams });`,
  'next.config.ts': `config.turbopack = { root: ${JSON.stringify(frameworks)} };`,
};

/** Inside this folder, where the packages are: the bundler follows no link out of its root. */
let folder: string;

before(async () => {
  folder = mkdtempSync(join(frameworks, '.next-'));
  for (const { file, page, example } of FILES)
    write(file, `${recipe(page, example)}\n${ADDED[file] ?? ''}\n`);
  write('package.json', '{ "type": "module" }');
  write('tsconfig.json', '{ "compilerOptions": { "strict": true, "skipLibCheck": true } }');
  await installSluice();
  // Checks the types as well.
  await promisify(execFile)(process.execPath, [program, 'build'], { cwd: folder, env }).catch((error) =>
    assert.fail(`${error.stdout}${error.stderr}`),
  );
});
after(() => rmSync(folder, { recursive: true, force: true }));

function write(file: string, text: string): void {
  mkdirSync(dirname(join(folder, file)), { recursive: true });
  writeFileSync(join(folder, file), text);
}

/** The package as npm installs it. */
async function installSluice(): Promise<void> {
  const installed = join(folder, 'node_modules/sluice');
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  const args = [compiler, '-p', join(root, 'tsconfig.build.json'), '--outDir', join(installed, 'dist')];
  await promisify(execFile)(process.execPath, args).catch(({ stdout }) => assert.fail(stdout));
  cpSync(join(root, 'package.json'), join(installed, 'package.json'));
}

async function start(path: string): Promise<Host> {
  const port = await freePort();
  const control = await openControl();
  const child = spawn(process.execPath, [program, 'start', '-H', '127.0.0.1', '-p', String(port)], {
    cwd: folder,
    env: { ...env, SUITE_PORT: String(control.port) },
  });
  const url = `http://127.0.0.1:${port}${path}`;
  const host = hostOf(child, url, control.hub, control.close);
  try {
    await accepts(port);
    // Next.js loads a route with its first request.
    await fetch(`${url}?topic=first`, { method: 'HEAD' });
    await control.connected;
  } catch (error) {
    await host.close();
    throw error;
  }
  return host;
}

// 128 and the number of SIGTERM, as shells write it.
const exitCode = 143;

describeHost('Next.js, a route handler', () => start('/events'), { exitCode });
describeHost('Next.js, the pages API', () => start('/api/events'), { exitCode });
