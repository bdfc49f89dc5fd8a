// Packs the package, installs it into an empty project, and imports and requires every module of it there.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const project = mkdtempSync(join(tmpdir(), 'sluice-pack-'));
const run = (command, ...args) => execFileSync(command, args, { cwd: project, encoding: 'utf8' });

try {
  const [{ filename }] = JSON.parse(
    execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', project], {
      cwd: root,
      encoding: 'utf8',
    }),
  );
  writeFileSync(join(project, 'package.json'), '{ "name": "empty", "private": true }');
  run('npm', 'install', '--silent', `./${filename}`);

  const { name, version, dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  if (dependencies !== undefined) throw new Error('the package has dependencies');
  const modules = readdirSync(join(root, 'lib'))
    .map((file) => file.replace(/\.ts$/, ''))
    .filter((module) => module !== 'bin');
  const ids = [name, ...modules.map((module) => `${name}/${module}`)];
  for (const id of ids) {
    const imported = run(
      'node',
      '--input-type=module',
      '-e',
      `console.log(Object.keys(await import('${id}')).sort().join())`,
    );
    const required = run(
      'node',
      '--no-warnings',
      '-e',
      `console.log(Object.keys(require('${id}')).filter((k) => k !== '__esModule').sort().join())`,
    );
    if (imported !== required || imported.trim() === '')
      throw new Error(`${id}: ${imported} is not ${required}`);
  }
  // What is typed must be found by a consumer's compiler too.
  writeFileSync(
    join(project, 'all.ts'),
    ids.map((id, i) => `import * as m${i} from '${id}';\nvoid m${i};\n`).join(''),
  );
  execFileSync(
    join(root, 'node_modules/.bin/tsc'),
    [
      '--noEmit',
      '--strict',
      '--module',
      'nodenext',
      '--types',
      'node',
      '--typeRoots',
      join(root, 'node_modules/@types'),
      'all.ts',
    ],
    { cwd: project, encoding: 'utf8', stdio: 'inherit' },
  );
  const shown = run('npx', '--no-install', 'sluice', '--version').trim();
  if (shown !== version) throw new Error(`sluice --version says ${shown}, the package is ${version}`);
  console.log(`packed, imported, required and type-checked: ${ids.join(' ')}`);
} finally {
  rmSync(project, { recursive: true, force: true });
}
