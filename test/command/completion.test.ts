import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { run } from '../helpers/command.ts';
import { files, lines } from '../helpers/completion.ts';

const folder = mkdtempSync(join(tmpdir(), 'sluice-completion-'));
for (const name of files) writeFileSync(join(folder, name), '');
after(() => rmSync(folder, { recursive: true }));

const script = run('completion', ['bash']).then(({ stdout }) => stdout);

/** What the function of the script answers, called as bash calls it. */
async function proposals(...words: readonly string[]): Promise<string[]> {
  const call = `COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sluice
    for one in "\${COMPREPLY[@]}"; do echo "$one"; done`;
  const argv = ['-c', `set -u\n${await script}\n${call}`, 'bash', ...words];
  return execFileSync('bash', argv, { cwd: folder, encoding: 'utf8' }).split('\n').slice(0, -1).sort();
}

describe('sluice completion bash', () => {
  for (const [line, expected] of lines) {
    it(`proposes ${expected.join(' and ') || 'nothing'} for "${line}"`, async () => {
      assert.deepEqual(await proposals(...line.split(' ')), expected);
    });
  }

  it('completes a value after = and a short option', async () => {
    assert.deepEqual(await proposals('sluice', 'serve', '--log-level', '=', 'e'), ['error']);
    assert.deepEqual(await proposals('sluice', 'serve', '--log-level', '='), ['error', 'info', 'warn']);
    assert.deepEqual(await proposals('sluice', 'tail', '-H', 'po'), []);
  });

  it('proposes every command', async () => {
    assert.deepEqual(await proposals('sluice', ''), [
      '--help',
      '--version',
      'check',
      'completion',
      'copy',
      'doctor',
      'help',
      'load',
      'publish',
      'serve',
      'tail',
    ]);
  });

  it('is the function that bash has registered for the command', async () => {
    const registered = execFileSync('bash', ['-c', `${await script}\ncomplete -p sluice`], {
      encoding: 'utf8',
    });
    assert.equal(registered, 'complete -F _sluice sluice\n');
  });
});

describe('sluice completion', () => {
  for (const [argv, got] of [
    [[], 'nothing'],
    [['tcsh'], 'tcsh'],
    [['bash', 'zsh'], 'bash zsh'],
  ] as const) {
    it(`refuses ${got}`, async () => {
      assert.deepEqual(await run('completion', argv), {
        code: 2,
        stdout: '',
        stderr: `sluice completion: expected bash, zsh or fish, got ${got}; see sluice completion --help\n`,
      });
    });
  }
});
