// What the modules and the package weigh, and whether the package is what the linters of packages ask for.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { packed, root } from './project.ts';
import { sizeOf } from './sizes.ts';

// Minified by esbuild with all that they need, then `gzip -9`; a KB is 1,000 bytes.
const BUDGETS: readonly (readonly [modules: string, kilobytes: number])[] = [
  ['encode', 1.1],
  ['replay', 0.9],
  ['semaphore', 1.0],
  ['limiter', 5.0],
  ['writer', 2.4],
  ['decode', 2.8],
  ['encode + writer + stream', 8.1],
];
const BROWSER_BUDGET = 12.6;
// Half are the sources that can be copied, over a third compiled code without comments, a sixth declarations.
const PACKAGE_BUDGET = 740;

describe('the size, minified and compressed,', () => {
  for (const [modules, budget] of BUDGETS) {
    it(`of ${modules} is at most ${budget} KB`, async () => {
      const { gzip } = await sizeOf(modules.split(' + '));
      assert.ok(gzip <= budget * 1000, `${gzip} bytes`);
    });
  }

  it(`of the client is at most ${BROWSER_BUDGET} KB in a browser, where it imports nothing of Node`, async () => {
    const { gzip, imports } = await sizeOf(['client'], 'browser');
    assert.deepEqual(imports, []);
    assert.ok(gzip <= BROWSER_BUDGET * 1000, `${gzip} bytes`);
  });
});

describe('the tarball', () => {
  it(`has at most ${PACKAGE_BUDGET} KB`, () => {
    assert.ok(packed.size <= PACKAGE_BUDGET * 1000, `${packed.size} bytes`);
  });

  it('holds the compiled code, its declarations, the sources of what can be copied, and little else', () => {
    const kinds = new Set(packed.files.map((path) => path.replace(/[^/]+?(\.d\.ts|\.[a-z]+|)$/, '*$1')));
    assert.deepEqual([...kinds].sort(), [
      ...['*', '*.json', '*.md', 'dist/*.d.ts', 'dist/*.js', 'dist/command/*.js', 'dist/command/*.json'],
      ...['dist/dashboard/*.css', 'dist/dashboard/*.d.ts', 'dist/dashboard/*.html', 'dist/dashboard/*.js'],
      ...['dist/dashboard/*.svg', 'docs/proxies/*', 'docs/proxies/*.cfg', 'docs/proxies/*.conf', 'lib/*.ts'],
    ]);
  });

  for (const [linter, bin, args] of [
    ['publint', 'publint/src/cli.js', ['run', packed.tarball, '--strict']],
    ['attw', '@arethetypeswrong/cli/dist/index.js', [packed.tarball, '--profile', 'esm-only', '--no-emoji']],
  ] as const) {
    it(`gives ${linter} nothing to complain about`, () => {
      const path = fileURLToPath(new URL(`node_modules/${bin}`, import.meta.url));
      const { status, stdout, stderr } = spawnSync(process.execPath, [path, ...args], {
        cwd: root,
        encoding: 'utf8',
      });
      assert.equal(status, 0, stdout + stderr);
    });
  }
});
