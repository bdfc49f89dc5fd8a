// Measures modules as a bundler would ship them: minified, with all that they need, and then compressed.
// The build writes the sizes of all modules to the file that is named, for `sluice copy --list`.
import { readdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import type { Size } from '../../lib/command/copy-library.ts';

const lib = fileURLToPath(new URL('../../lib', import.meta.url));

/** The size of some modules of `lib/` in one file, and what that file still imports. */
export async function sizeOf(
  modules: readonly string[],
  platform: 'node' | 'browser' = 'node',
): Promise<Size & { readonly imports: readonly string[] }> {
  const contents = modules.map((name) => `export * from './${name}.ts';`).join('\n');
  const { outputFiles, metafile } = await build({
    stdin: { contents, resolveDir: lib, loader: 'ts' },
    ...{ bundle: true, minify: true, write: false, metafile: true },
    ...{ format: 'esm', target: 'esnext', platform, legalComments: 'none', logLevel: 'silent' },
  });
  const imports = Object.values(metafile.outputs).flatMap((output) => output.imports.map(({ path }) => path));
  const { contents: bytes } = outputFiles[0]!;
  return { min: bytes.length, gzip: gzipSync(bytes, { level: 9 }).length, imports };
}

const [, program, target] = process.argv;
if (program === fileURLToPath(import.meta.url) && target !== undefined) {
  const modules = readdirSync(lib).flatMap((file) => (file.endsWith('.ts') ? [file.slice(0, -3)] : []));
  const sizes = modules.map(async (name): Promise<[string, Size]> => {
    const { min, gzip } = await sizeOf([name]);
    return [name, { min, gzip }];
  });
  writeFileSync(target, `${JSON.stringify(Object.fromEntries(await Promise.all(sizes)))}\n`);
}
