// What the modules and the package weigh, and whether the package is what the linters of packages ask for.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { packed, root } from './project.ts';
import { sizeOf } from './sizes.ts';

/** The rows of the table of docs/copying.md. */
const BUDGETS = Array.from(
  readFileSync(join(root, 'docs/copying.md'), 'utf8').matchAll(/^\| (`.+) \| ([\d.]+) KB \|$/gm),
  ([, row = '', kilobytes = '']) => ({
    modules: Array.from(row.matchAll(/`([a-z-]+)`/g), ([, name = '']) => name),
    platform: row.endsWith(', in a browser') ? ('browser' as const) : ('node' as const),
    kilobytes: Number(kilobytes),
  }),
);

// Two fifths are the sources that can be copied, as much is compiled code without comments, a sixth declarations.
const PACKAGE_BUDGET = 760;

describe('the size, minified and compressed,', () => {
  it('is limited for eight sets of modules', () => assert.equal(BUDGETS.length, 8));

  for (const { modules, platform, kilobytes } of BUDGETS) {
    it(`of ${modules.join(' + ')} is at most ${kilobytes} KB`, async () => {
      const { gzip, imports } = await sizeOf(modules, platform);
      assert.ok(gzip <= kilobytes * 1000, `${gzip} bytes`);
      if (platform === 'browser') assert.deepEqual(imports, []);
      else assert.ok(imports.every((path) => path.startsWith('node:')));
    });
  }
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
