// Generates the modules of lib/dashboard/ that browsers load from those of lib/: `npm run generate`.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** The modules that the dashboard has in common with the rest. */
export const generatedModules: readonly string[] = ['protocol', 'decode', 'decode-bytes'];

/** Where a generated module belongs. */
export function generatedFile(name: string): string {
  return join(root, `lib/dashboard/${name}.js`);
}

/** The generated module, as the TypeScript compiler writes it now. */
export function generate(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-generate-'));
  try {
    const options = [
      '--removeComments',
      '--ignoreConfig',
      '--types',
      '',
      '--rewriteRelativeImportExtensions',
    ];
    const output = ['--target', 'es2022', '--module', 'esnext', '--newLine', 'lf', '--outDir', folder];
    const args = [`lib/${name}.ts`, ...options, ...output];
    execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), ...args], { cwd: root });
    const header = `// Generated from lib/${name}.ts by \`npm run generate\`. Do not edit.`;
    return `${header}\n${readFileSync(join(folder, `${name}.js`), 'utf8')}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const name of generatedModules) writeFileSync(generatedFile(name), generate(name));
