// Whether the command runs our servers of another commit beside ours.
//   npx tsx --test bench/report/against.test.ts

import assert from 'node:assert/strict';
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Run } from '../scenarios/scenario.ts';
import { readReport } from './json.ts';
import type { Report } from './report.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'sluice-against-'));
after(() => rmSync(folder, { recursive: true }));

const git = (where: string, ...argv: string[]) => gitWith({}, where, ...argv);

function gitWith(env: NodeJS.ProcessEnv, where: string, ...argv: string[]): string {
  const author = ['-c', 'user.name=test', '-c', 'user.email=test@localhost'];
  const options = { encoding: 'utf8', env: { ...process.env, ...env } } as const;
  return spawnSync('git', ['-C', where, ...author, ...argv], options).stdout.trim();
}

function bench(argv: readonly string[], env: NodeJS.ProcessEnv = {}): SpawnSyncReturns<string> {
  const node = ['--import', import.meta.resolve('tsx'), join(root, 'bench/run.ts'), ...argv, '--no-install'];
  return spawnSync(process.execPath, node, { encoding: 'utf8', env: { ...process.env, ...env }, cwd: root });
}

/** Runs again, at most five times, where the machine had no time for the reader. */
function reportOf(
  argv: readonly string[],
  env?: NodeJS.ProcessEnv,
): { report: Report; text: string; stdout: string } {
  for (let tries = 1; ; tries++) {
    const { status, signal, stdout, stderr } = bench([...argv, '--quick', '--out', folder], env);
    const paths = stdout.split('\n').filter((line) => line.startsWith(folder));
    assert.equal(paths.length, 3, `${signal ?? status}: ${stderr}${stdout}`);
    const report = readReport(paths.find((path) => path.endsWith('.json'))!);
    const isLimited = report.runs.some(({ invalid }) => invalid === 'the reader was the limit');
    if (!isLimited || tries === 5) return { report, text: stderr, stdout };
  }
}

const runFolders = () => readdirSync(join(root, 'bench/peers')).filter((name) => name.startsWith('.plain-'));
const known = runFolders();

const isCheckout = git(root, 'rev-parse', '--git-dir') !== '';

describe('a run against another commit', { skip: isCheckout ? false : 'this is not a git checkout' }, () => {
  const commit = git(root, 'rev-parse', '--short', 'HEAD');
  const before = `sluice@${commit}`;

  it('measures our servers of both commits in pairs, and ends with the ratios', () => {
    const argv = [
      'fanout',
      '--against',
      'HEAD',
      '--connections',
      '20',
      '--batch',
      '1',
      '--peers',
      'sluice,raw',
    ];
    const { report, stdout } = reportOf(argv);
    assert.deepEqual(
      report.runs.map(({ peer, invalid }) => [peer, invalid]),
      [
        ['sluice', undefined],
        [before, undefined],
        ['raw', undefined],
      ],
    );
    assert.equal(report.against, commit);
    assert.equal(report.titles[before], `sluice at ${commit}`);
    assert.match(
      report.environment.versions[before]!,
      new RegExp(`^sluice \\d+\\.\\d+\\.\\d+ at ${commit}$`),
    );
    assert.match(stdout, /^fanout, connections 20, .* sluice {2}CPU of the server per delivery .* × *$/m);
    // A short run may have taken the kernel less than it counts, and then has no figure of that.
    assert.match(stdout, /^([45]) of \1 figures have fewer than 5 pairs: no verdict$/m);
  });

  it('measures the single modules of both commits', () => {
    const { report } = reportOf([
      'micro',
      '--bench',
      'encode,replay,router',
      '--against',
      'HEAD',
      '--peers',
      'sluice',
    ]);
    const of = (peer: string) => report.runs.filter((run) => run.peer === peer);
    const keyOf = ({ parameters }: Run) => JSON.stringify(parameters);
    assert.ok(of('sluice').length > 0);
    // Two benches run at a time, so they end in any order.
    assert.deepEqual(of(before).map(keyOf).toSorted(), of('sluice').map(keyOf).toSorted());
    for (const { figures, invalid } of of(before)) {
      assert.equal(invalid, undefined);
      assert.ok(Object.values(figures).every(Number.isFinite));
    }
  });

  it('measures a module of a commit that has no bench of it', () => {
    const objects = mkdtempSync(join(folder, 'objects-'));
    // Objects of the new commit go into a folder of their own, and the index is another one too.
    const env = {
      GIT_INDEX_FILE: join(objects, 'index'),
      GIT_OBJECT_DIRECTORY: objects,
      GIT_ALTERNATE_OBJECT_DIRECTORIES: join(
        git(root, 'rev-parse', '--path-format=absolute', '--git-common-dir'),
        'objects',
      ),
    };
    const inObjects = (...argv: string[]) => gitWith(env, root, ...argv);
    inObjects('read-tree', 'HEAD');
    inObjects('rm', '--cached', '--ignore-unmatch', '--quiet', 'bench/memory.bench.ts');
    const revision = inObjects('commit-tree', inObjects('write-tree'), '-m', 'without a bench');
    const argv = ['micro', '--bench', 'memory', '--peers', 'sluice', '--against', revision];
    const { report } = reportOf(argv, env);
    const [ours, theirs] = ['sluice', `sluice@${report.against}`].map((peer) =>
      report.runs.filter((run) => run.peer === peer).map(({ parameters, invalid }) => [parameters, invalid]),
    );
    assert.ok(ours!.length > 0);
    assert.deepEqual(theirs, ours);
  });

  it('removes its temporary folder', () => {
    assert.deepEqual(runFolders(), known);
  });
});

describe('a commit that cannot be measured', () => {
  const refused = (revision: string, env?: NodeJS.ProcessEnv) => {
    const { status, stderr } = bench(['fanout', '--quick', '--against', revision, '--out', folder], env);
    assert.equal(status, 2, stderr);
    assert.equal(stderr.trim().split('\n').length, 1, stderr);
    return stderr.trim();
  };

  /** A repository with one commit of these files. */
  const repositoryOf = (files: Readonly<Record<string, string>>) => {
    const path = mkdtempSync(join(folder, 'repository-'));
    git(path, 'init', '--quiet');
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(join(path, name, '..'), { recursive: true });
      writeFileSync(join(path, name), content);
    }
    git(path, 'add', '.');
    git(path, 'commit', '--quiet', '--message', 'one');
    return join(path, '.git');
  };

  it('is refused where its name is unknown', {
    skip: isCheckout ? false : 'this is not a git checkout',
  }, () => {
    assert.equal(refused('nowhere'), '`--against` must name a commit of this repository, got "nowhere"');
  });

  it('is refused where there is no git checkout', () => {
    assert.match(
      refused('HEAD', { GIT_DIR: join(folder, 'nothing') }),
      /^`--against` needs a git checkout, and .* is not one$/,
    );
  });

  it('is refused where git is not installed', () => {
    assert.equal(refused('HEAD', { PATH: '' }), '`--against` needs git, which is not installed');
  });

  it('is refused where it does not compile', () => {
    const files = { 'lib/a.ts': 'export const a = ;\n', 'tsconfig.json': '{}', 'package.json': '{}' };
    assert.match(
      refused('HEAD', { GIT_DIR: repositoryOf(files) }),
      /^commit [0-9a-f]{7,}: the servers do not compile: .*lib\/a\.ts\(1,18\): error TS1109/,
    );
  });

  it('is skipped where it has no servers', () => {
    const files = { 'lib/a.ts': 'export const a = 1;\n', 'tsconfig.json': '{}', 'package.json': '{}' };
    const { stderr } = bench(
      ['fanout', '--quick', '--peers', 'sluice', '--connections', '20', '--against', 'HEAD', '--out', folder],
      { GIT_DIR: repositoryOf(files) },
    );
    assert.match(stderr, /fanout: sluice@\w+ is skipped: commit \w+ has no bench\/peers\/sluice\.ts/);
  });
});
