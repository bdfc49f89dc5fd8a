// Reads the installed package for `sluice copy`: its modules, what each needs beside it, their texts and sizes.
// Stands alone: copy this file by itself.

import { readdir, readFile } from 'node:fs/promises';

/** The installed package, as far as it can be copied. */
export interface Library {
  readonly version: string;
  readonly origin: string;
  readonly license: string;
  readonly copyright: string;
  /** Each module that can be copied, with all modules that it needs beside it; sorted. */
  readonly needs: ReadonlyMap<string, readonly string[]>;
  /** The other modules, each with the file that it needs and that is no module. */
  readonly bound: ReadonlyMap<string, string>;
  /** Those that the package exports; the others are parts of them. */
  readonly exported: ReadonlySet<string>;
  /** The text of a file: `encode.ts`, `encode.js` or `encode.d.ts`; `undefined` where there is none. */
  read(file: string): Promise<string | undefined>;
  /** By module. Rejects where the package was not built. */
  sizes(): Promise<Readonly<Record<string, Size>>>;
}

/** Bytes of a module in one file with all that it needs, minified, and those compressed with gzip. */
export interface Size {
  readonly min: number;
  readonly gzip: number;
}

/** Reads the package that this file is a part of. */
export async function openLibrary(root: URL = new URL('../../', import.meta.url)): Promise<Library> {
  const [manifest, license, modules] = await Promise.all([
    readFile(new URL('package.json', root), 'utf8').then(JSON.parse),
    readFile(new URL('LICENSE', root), 'utf8'),
    siblingsOfModules(new URL('lib/', root)),
  ]);
  const { needs, bound } = sorted(modules);
  return {
    version: manifest.version,
    origin: manifest.repository.url.replace(/^git\+|\.git$/g, ''),
    license: manifest.license,
    copyright: /^Copyright .+$/m.exec(license)![0],
    needs,
    bound,
    exported: new Set(Object.keys(manifest.exports).map((path) => path.replace(/^\.\//, ''))),
    async read(file) {
      if (!modules.has(file.replace(/(?:\.d)?\.[jt]s$/, '.ts'))) return undefined;
      const isSource = /(?<!\.d)\.ts$/.test(file);
      return isSource ? readFile(new URL(`lib/${file}`, root), 'utf8') : readBuilt(root, file);
    },
    sizes: async () => JSON.parse(await readBuilt(root, 'command/sizes.json')),
  };
}

function readBuilt(root: URL, path: string): Promise<string> {
  return readFile(new URL(`dist/${path}`, root), 'utf8').catch(() => {
    throw new Error(
      `dist/${path} cannot be read: run "npm run build" in a checkout, or install the package again`,
    );
  });
}

/** The files that each module imports, both by their names in `lib/`: `limiter.ts`, `dashboard/dashboard.ts`. */
async function siblingsOfModules(folder: URL): Promise<Map<string, string[]>> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.ts')).sort();
  const siblings = files.map(async (file): Promise<[string, string[]]> => {
    const imports = importsOf(await readFile(new URL(file, folder), 'utf8'));
    return [file, imports.flatMap((path) => (path.startsWith('./') ? [path.slice(2)] : []))];
  });
  return new Map(await Promise.all(siblings));
}

/** Divides the modules into those that need only other modules, and those that need another part of the package. */
function sorted(modules: ReadonlyMap<string, readonly string[]>): Pick<Library, 'needs' | 'bound'> {
  const needs = new Map<string, string[]>();
  const bound = new Map<string, string>();
  for (const file of modules.keys()) {
    const all = [...filesWith(file, (one) => modules.get(one) ?? [])].slice(1);
    const foreign = all.find((needed) => !modules.has(needed));
    if (foreign === undefined) needs.set(nameOf(file), all.map(nameOf).sort());
    else bound.set(nameOf(file), foreign);
  }
  return { needs, bound };
}

const nameOf = (file: string): string => file.replace(/\.ts$/, '');

// ── what a file needs ─────────────────────────────────────────────────────────────────────────────────────

// Biome begins every top-level statement in the first column, and no line of a comment there.
const STATEMENT = /^(?:import|export)\b[^'";]*?\bfrom\s*['"]([^'"]+)['"]|^import\s*['"]([^'"]+)['"]/gm;
const EXPRESSION = /\b(?:import|require|getBuiltinModule)\(\s*['"]([^'"]+)['"]/g;

/** What a source of this package imports, types too, each once. Not for sources that are formatted otherwise. */
export function importsOf(source: string): string[] {
  const found = [...source.matchAll(STATEMENT), ...source.matchAll(EXPRESSION)];
  return [...new Set(found.map(([, from, bare]) => (from ?? bare) as string))];
}

/** A file, first, and all files that it needs, directly or through others. */
export function filesWith(file: string, siblingsOf: (file: string) => readonly string[]): Set<string> {
  const met = new Set([file]);
  // A set visits what is added while it is iterated.
  for (const one of met) for (const sibling of siblingsOf(one)) met.add(sibling);
  return met;
}
