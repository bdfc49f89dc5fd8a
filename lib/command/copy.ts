// Copies modules into a project, with what they need beside them (`sluice copy`), and says what became of copies.
// Needs `argv.ts`, `copy-header.ts`, `copy-library.ts`, `did-you-mean.ts` and `io.ts` beside it.

import { existsSync } from 'node:fs';
import { lstat, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type OptionSpecs, readOptions, usageError } from './argv.ts';
import { type Copied, hashOf, readCopy, withHeader } from './copy-header.ts';
import { type Library, openLibrary } from './copy-library.ts';
import { didYouMean } from './did-you-mean.ts';
import { type CommandIo, escapeControls, report } from './io.ts';

const HELP = `Usage: sluice copy [options] MODULE… DIR
       sluice copy --check DIR
       sluice copy --list [MODULE…]

Copies modules of sluice into the folder DIR, with the modules that they need, so that a project can have them
without the package. Each copy begins with its origin, version and licence, and the hash of its text. A copy that
was changed is not written over.

      --js     copy JavaScript, and declarations with the types; default TypeScript
      --force  write also over copies that were changed, and over other files
      --check  say which copies in DIR were changed, and which are not what the installed version has
      --list   print the modules with their sizes, or only those that are named
  -h, --help

Exit codes:
  0  done; with --check: all copies are what the installed version has
  1  a file is in the way, or cannot be written; with --check: a copy was changed, or the installed version differs
  2  wrong usage
  130  interrupted

Examples:
  sluice copy encode limiter src/sse
  sluice copy --js client public/sse
  sluice copy --check src/sse
`;

const OPTIONS = {
  js: { kind: 'flag' },
  force: { kind: 'flag' },
  check: { kind: 'flag' },
  list: { kind: 'flag' },
  help: { kind: 'flag', short: 'h' },
} as const;

/** The same for completion by shells. */
export const copyOptions: OptionSpecs = OPTIONS;

/** Runs `sluice copy`; `argv` has the words after that. Resolves with the exit code. */
export async function copy(argv: readonly string[], io: CommandIo): Promise<number> {
  const { values, positionals, written } = readOptions(argv, OPTIONS);
  if (values.help) {
    io.stdout.write(HELP);
    return 0;
  }
  for (const mode of ['check', 'list'] as const) {
    const other = [...written.keys()].find((name) => name !== mode);
    if (values[mode] && other !== undefined) throw usageError(`--${mode} cannot be given with --${other}`);
  }
  const library = await openLibrary();
  if (values.list) return list(library, positionals, io);
  if (values.check) return check(library, folderToCheck(positionals), io);
  const target = targetOf(library, positionals);
  const extensions = values.js ? ['.js', '.d.ts'] : ['.ts'];
  return copyInto(library, target, extensions, values.force === true, io);
}

// ── what is asked for ─────────────────────────────────────────────────────────────────────────────────────

interface Target {
  readonly modules: readonly string[];
  readonly folder: string;
}

function targetOf(library: Library, words: readonly string[]): Target {
  const { needs, bound } = library;
  const folder = words.at(-1);
  if (folder === undefined || words.length < 2)
    throw usageError(
      `expected modules and then a folder, got ${folder === undefined ? 'nothing' : `only "${folder}"`}`,
    );
  // Forgetting the folder would otherwise make one that is called like the last module.
  const name = withoutExtension(folder);
  if ((needs.has(name) || bound.has(name)) && !existsSync(folder))
    throw usageError(`"${folder}" is a module; name the folder last, as ./${folder} if that is it`);
  return { modules: words.slice(0, -1).map((word) => moduleOf(library, word)), folder };
}

function folderToCheck([folder, ...more]: readonly string[]): string {
  if (folder !== undefined && more.length === 0) return folder;
  throw usageError(`--check expects one folder, got ${folder === undefined ? 'none' : more.length + 1}`);
}

/** The module that a word names, with `.ts` or `.js` after it or without. */
function moduleOf({ needs, bound }: Library, word: string): string {
  const name = withoutExtension(word);
  if (needs.has(name)) return name;
  const foreign = bound.get(name);
  if (foreign !== undefined)
    throw usageError(`"${name}" cannot be copied: it needs ${foreign}; use the package`);
  const meant = didYouMean(name, needs.keys());
  const advice = meant === undefined ? '; sluice copy --list prints all' : ` (did you mean ${meant}?)`;
  throw usageError(`unknown module "${word}"${advice}`);
}

const withoutExtension = (word: string): string => word.replace(/\.[jt]s$/, '');

// ── copying ───────────────────────────────────────────────────────────────────────────────────────────────

interface Plan {
  readonly path: string;
  readonly text: string;
  /** What is at `path` now. */
  readonly found: 'nothing' | 'the same' | 'a copy' | 'a changed copy' | 'another file';
}

async function copyInto(
  library: Library,
  { modules, folder }: Target,
  extensions: readonly string[],
  force: boolean,
  io: CommandIo,
): Promise<number> {
  const all = new Set(modules.flatMap((name) => [name, ...library.needs.get(name)!]));
  const files = [...all].sort().flatMap((name) => extensions.map((extension) => name + extension));
  const plans = await Promise.all(files.map((file) => planFor(library, folder, file)));
  const obstacles = plans.filter(({ found }) => found === 'a changed copy' || found === 'another file');
  if (obstacles.length > 0 && !force) {
    for (const { path, found } of obstacles) report(io, 'sluice copy', `${path} is ${found}`);
    report(io, 'sluice copy', 'nothing was copied; move these away, or give --force to write over them');
    return 1;
  }
  await makeFolder(folder);
  for (const { path, text, found } of plans) {
    if (io.signal.aborted) return 130;
    if (found !== 'the same') await writeFile(path, text, { flag: found === 'nothing' ? 'wx' : 'w' });
    io.stdout.write(`${escapeControls(path)}${found === 'the same' ? ' (already there)' : ''}\n`);
  }
  return 0;
}

/** Not by `recursive`, with which Node never ends where a folder takes no other, as below `/proc`. */
async function makeFolder(path: string): Promise<void> {
  if ((await stat(path).catch(unlessMissing)) !== undefined) return;
  const parent = dirname(path);
  if (parent !== path) await makeFolder(parent);
  await mkdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
}

function unlessMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

async function planFor(library: Library, folder: string, file: string): Promise<Plan> {
  const path = join(folder, file);
  const fresh = withHeader({ ...library, file }, (await library.read(file))!);
  // Not by the way of a symbolic link, which may lead out of the folder.
  const entry = await lstat(path).catch(unlessMissing);
  if (entry === undefined) return { path, text: fresh, found: 'nothing' };
  if (!entry.isFile())
    throw new Error(`${path} is ${entry.isDirectory() ? 'a folder' : 'no regular file'}; move it away`);
  const present = await readFile(path, 'utf8');
  const copied = readCopy(present);
  if (copied === undefined) return { path, text: fresh, found: 'another file' };
  // What the project has put before the header, and its line ends, stay.
  const text = (copied.before + fresh).replaceAll('\n', present.includes('\r\n') ? '\r\n' : '\n');
  if (present === text) return { path, text, found: 'the same' };
  return { path, text, found: copied.isChanged ? 'a changed copy' : 'a copy' };
}

// ── checking ──────────────────────────────────────────────────────────────────────────────────────────────

async function check(library: Library, folder: string, io: CommandIo): Promise<number> {
  const copies = await copiesIn(folder);
  if (copies.length === 0) throw usageError(`${folder} holds no copies of sluice`);
  let differing = 0;
  for (const [name, copied] of copies) {
    const finding = await findingOf(library, copied);
    if (finding === undefined) continue;
    differing++;
    io.stdout.write(`${escapeControls(`${join(folder, name)}: ${finding}`)}\n`);
  }
  const same = copies.length - differing;
  io.stdout.write(`${same} of ${copies.length} copies are what sluice ${library.version} has\n`);
  return differing === 0 ? 0 : 1;
}

async function copiesIn(folder: string): Promise<[string, Copied][]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const names = entries.map(({ name }) => name).filter((name) => /\.[cm]?[jt]s$/.test(name));
  const copies = names.sort().map(async (name): Promise<[string, Copied | undefined]> => {
    const path = join(folder, name);
    // A symbolic link that leads nowhere is how Emacs locks a file.
    const isFile = (await stat(path).catch(unlessMissing))?.isFile();
    return [name, isFile ? readCopy(await readFile(path, 'utf8')) : undefined];
  });
  return (await Promise.all(copies)).filter((entry): entry is [string, Copied] => entry[1] !== undefined);
}

/** What is to be said about a copy; `undefined` where it is what the installed version has. */
async function findingOf(library: Library, { header, hash, isChanged }: Copied): Promise<string | undefined> {
  const installed = await library.read(header.file);
  const isOther = installed === undefined || hashOf(installed) !== hash;
  if (!isChanged && !isOther) return undefined;
  const history = `copied from sluice ${header.version}${isChanged ? ' and changed' : ''}`;
  if (!isOther) return history;
  const what = installed === undefined ? 'no' : 'another';
  return `${history}; sluice ${library.version} has ${what} ${header.file}`;
}

// ── listing ───────────────────────────────────────────────────────────────────────────────────────────────

/** In the list of all modules, so many needs of each are named. */
const MAX_NEEDS = 6;

async function list(library: Library, words: readonly string[], { stdout }: CommandIo): Promise<number> {
  const { needs: all, exported } = library;
  const most = words.length > 0 ? Infinity : MAX_NEEDS;
  const names =
    words.length > 0
      ? words.map((word) => moduleOf(library, word))
      : [...all.keys()].filter((name) => exported.has(name));
  const sizes = await library.sizes();
  const lines = new Map<string, number>();
  for (const name of all.keys()) lines.set(name, await linesOf(library, name));
  const rows = names.map((name) => {
    const needs = all.get(name)!;
    const { min, gzip } = sizes[name]!;
    const shown = needs.length > most ? [...needs.slice(0, most), `+${needs.length - most}`] : needs;
    const total = [name, ...needs].reduce((sum, one) => sum + lines.get(one)!, 0);
    return [name, String(total), kilobytes(min), kilobytes(gzip), shown.join(' ') || '-'];
  });
  stdout.write(tableOf([['module', 'lines', 'min KB', 'min+gz KB', 'needs'], ...rows]));
  stdout.write(
    'Lines and sizes are those of a module together with all that it needs; a KB is 1,000 bytes.\n',
  );
  return 0;
}

async function linesOf(library: Library, name: string): Promise<number> {
  return (await library.read(`${name}.ts`))!.split('\n').length - 1;
}

const kilobytes = (bytes: number): string => (bytes / 1000).toFixed(1);

/** Columns of text; those of figures are aligned to the right. */
function tableOf(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const lines = rows.map((row) =>
    row
      .map((cell, column) => {
        if (column === row.length - 1) return cell;
        return column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!);
      })
      .join('  '),
  );
  return `${lines.join('\n')}\n`;
}
