// Reports the public API of each exported module, from the declarations in dist/, and compares the reports with the
// committed ones in docs/api-report/. With `--update` it replaces the committed ones.
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CompilerState, Extractor, ExtractorConfig, ExtractorLogLevel } from '@microsoft/api-extractor';
import { createTwoFilesPatch } from 'diff';

const root = join(import.meta.dirname, '../..');
const committed = join(root, 'docs/api-report');
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** Module by module, by the name of its report: the declarations that `exports` of package.json names. */
const modules = Object.entries(manifest.exports)
  .filter(([, target]) => target.types !== undefined)
  .map(([key, { types }]) => ({
    name: key === '.' ? manifest.name : key.slice(2),
    types: types.replace('./dist/', ''),
  }));

const folder = mkdtempSync(join(tmpdir(), 'sluice-api-'));
try {
  const made = makeReports();
  if (process.argv.includes('--update')) update(made);
  else process.exitCode = compare(made);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** The text of each report, by its file's name. */
function makeReports() {
  layOut();
  const configs = modules.map(({ types }) => configOf(types));
  const entries = modules.map(({ types }) => join(folder, types));
  const compilerState = CompilerState.create(configs[0], { additionalEntryPoints: entries });
  for (const config of configs) {
    const { errorCount } = Extractor.invoke(config, { localBuild: true, compilerState, messageCallback });
    if (errorCount > 0) throw new Error(`the API of ${config.mainEntryPointFilePath} cannot be reported`);
  }
  const reports = modules.map(({ name, types }) => {
    const text = readFileSync(join(folder, 'reports', types.replace('.d.ts', '.api.md')), 'utf8');
    return [`${name}.api.md`, readable(name, text)];
  });
  return new Map(reports);
}

/**
 * Makes each module a client of the others: its imports of `./hub.ts` become imports of `sluice/hub`. So each
 * declaration stands in the report of the module that exports it and in no other.
 */
function layOut() {
  const dist = join(root, 'dist');
  const installed = join(folder, 'node_modules', manifest.name);
  if (!existsSync(join(dist, 'index.d.ts')))
    throw new Error('dist/ has no declarations: run `npm run build` first');
  cpSync(dist, join(installed, 'dist'), { recursive: true });
  cpSync(join(root, 'package.json'), join(installed, 'package.json'));
  cpSync(join(root, 'node_modules/@types/node'), join(folder, 'node_modules/@types/node'), {
    recursive: true,
    dereference: true,
  });
  cpSync(join(root, 'node_modules/undici-types'), join(folder, 'node_modules/undici-types'), {
    recursive: true,
    dereference: true,
  });
  cpSync(dist, folder, { recursive: true, filter: (path) => !path.endsWith('.js') });
  const exported = new Map(modules.map(({ name, types }) => [types.replace('.d.ts', ''), name]));
  for (const { types } of modules) {
    const source = readFileSync(join(dist, types), 'utf8');
    const moved = source.replace(/(['"])\.\/([\w-]+)\.[jt]s\1/g, (specifier, quote, sibling) => {
      return exported.has(sibling) ? `${quote}${manifest.name}/${exported.get(sibling)}${quote}` : specifier;
    });
    writeFileSync(join(folder, types), moved);
  }
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'report', type: 'module' }));
  mkdirSync(join(folder, 'reports'));
}

function configOf(types) {
  const none = { logLevel: ExtractorLogLevel.None };
  return ExtractorConfig.prepare({
    configObjectFullPath: undefined,
    packageJsonFullPath: join(folder, 'package.json'),
    configObject: {
      projectFolder: folder,
      mainEntryPointFilePath: join(folder, types),
      newlineKind: 'lf',
      compiler: {
        overrideTsconfig: {
          compilerOptions: {
            module: 'nodenext',
            target: 'es2023',
            lib: ['es2024'],
            types: ['node'],
            strict: true,
            skipLibCheck: true,
          },
        },
      },
      apiReport: {
        enabled: true,
        reportFileName: types.replace('.d.ts', ''),
        reportFolder: join(folder, 'reports'),
        reportTempFolder: join(folder, 'temp'),
      },
      docModel: { enabled: false },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      messages: {
        compilerMessageReporting: { default: { logLevel: ExtractorLogLevel.Error } },
        // A type that a module's API uses and does not export belongs in the report: whoever needs it cannot name it.
        extractorMessageReporting: {
          default: none,
          'ae-forgotten-export': { logLevel: ExtractorLogLevel.Warning, addToApiReportFile: true },
        },
        tsdocMessageReporting: { default: none },
      },
    },
  });
}

/** Nothing is printed but what ends the run: the report says the rest. */
function messageCallback(message) {
  message.handled = message.logLevel !== ExtractorLogLevel.Error;
}

/** A report without what is the same in each: release tags and notes on documentation. */
function readable(name, text) {
  const heading = name === manifest.name ? name : `${manifest.name}/${name}`;
  const reexported = new Set(Array.from(text.matchAll(/^export \{ (\w+) \}$/gm), ([, one]) => one));
  return text
    .replace(/^## API Report File for .*\n/, `# ${heading}\n`)
    .replace(
      /^> Do not edit this file\..*$/m,
      'Generated from the declarations by `npm run api`. Do not edit.',
    )
    .replace(/^ *\/\/ (?:@public|\(undocumented\)|@public \(undocumented\))\n/gm, '')
    .replace(/^\/\/ \(No @packageDocumentation .*\n/m, '')
    .replace(/^export \{ \w+ \}\n\n?/gm, '')
    .replace(/^import (\{ (\w+) \} from .*)$/gm, (line, rest, one) =>
      reexported.has(one) ? `export ${rest}` : line,
    )
    .replace(/\n{2,}/g, '\n\n')
    .replace(/\n+```ts\n+/, '\n\n```ts\n')
    .replace(/\n+```\n*$/, '\n```\n');
}

function update(made) {
  rmSync(committed, { recursive: true, force: true });
  mkdirSync(committed, { recursive: true });
  for (const [file, text] of made) writeFileSync(join(committed, file), text);
  console.log(`wrote ${made.size} reports to docs/api-report`);
}

/** Prints how the reports differ from the committed ones, and returns the exit code. */
function compare(made) {
  const kept = existsSync(committed) ? readdirSync(committed) : [];
  const differences = [...new Set([...kept, ...made.keys()])].sort().flatMap((file) => {
    const before = kept.includes(file)
      ? readFileSync(join(committed, file), 'utf8').replaceAll('\r\n', '\n')
      : '';
    const after = made.get(file) ?? '';
    return before === after ? [] : [createTwoFilesPatch(`committed/${file}`, `built/${file}`, before, after)];
  });
  if (differences.length === 0) {
    console.log(`the public API is as reported in docs/api-report (${made.size} modules)`);
    return 0;
  }
  console.log(differences.join('\n'));
  console.log(
    `${differences.length} reports differ: see whether that is meant, run \`npm run api\` and commit docs/api-report.`,
  );
  return 1;
}
