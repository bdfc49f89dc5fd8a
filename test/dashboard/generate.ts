// Generates lib/dashboard/protocol.js, which browsers load, from lib/protocol.ts: `npm run generate`.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Where the generated module belongs. */
export const generatedFile: string = join(root, 'lib/dashboard/protocol.js');

/** The generated module, as the TypeScript compiler writes it now. */
export function generateProtocol(): string {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-generate-'));
  try {
    const options = ['--removeComments', '--ignoreConfig', '--types', ''];
    const output = ['--target', 'es2022', '--module', 'esnext', '--newLine', 'lf', '--outDir', folder];
    const args = ['lib/protocol.ts', ...options, ...output];
    execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), ...args], { cwd: root });
    return `${HEADER}\n${readFileSync(join(folder, 'protocol.js'), 'utf8')}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const HEADER = '// Generated from lib/protocol.ts by `npm run generate`. Do not edit.';

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(generatedFile, generateProtocol());
