// Loads the scripts of `sluice completion` into the real shells: apt-get install zsh fish.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { run } from '../helpers/command.ts';
import { files, lines } from '../helpers/completion.ts';

const folder = mkdtempSync(join(tmpdir(), 'sluice-completion-'));
after(() => rmSync(folder, { recursive: true }));
before(async () => {
  for (const name of files) writeFileSync(join(folder, name), '');
  for (const shell of ['zsh', 'fish'])
    writeFileSync(join(folder, `script.${shell}`), (await run('completion', [shell])).stdout);
});

/** Fails where the shell is absent: a check that is skipped is none. */
function outputOf(shell: string, argv: readonly string[]): string {
  const { error, status, stdout, stderr } = spawnSync(shell, argv, {
    cwd: folder,
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env, HOME: folder, XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder },
  });
  if (error !== undefined) throw error;
  assert.equal(status, 0, stderr);
  return stdout;
}

describe('sluice completion fish', () => {
  it('proposes the same as the other shells', () => {
    const asked = lines.map(([line]) => `complete -C '${line}' | string split -f 1 \\t; echo =`);
    const output = outputOf('fish', ['-c', `source script.fish\n${asked.join('\n')}`]);
    const answers = output.split('=\n').slice(0, -1);
    for (const [i, [line, expected]] of lines.entries())
      assert.deepEqual(answers[i]!.split('\n').slice(0, -1).sort(), expected, line);
  });
});

describe('sluice completion zsh', () => {
  // A shell of its own with a line editor, in which Tab is pressed. Its `sluice` prints its arguments.
  const DRIVER = `
    zmodload zsh/zpty
    zpty shell zsh -f -i
    wait_for() {
      local all= chunk
      while [[ $all != *"$1"* ]]; do zpty -r shell chunk || exit 1; all+=$chunk; done
      print -r -- "$all"
    }
    zpty -w shell 'PS1=; stty -echo; autoload -Uz compinit; compinit -u -D; source script.zsh'
    zpty -w shell 'sluice() { print -r "ran"": <\${(j:|:)@}>"; }; print rea""dy'
    wait_for ready >/dev/null
    for line in "$@"; do
      zpty -w -n shell "$line"$'\\t\\n'
      wait_for '>' | grep -a -o 'ran: <.*>'
    done`;

  it('completes what can be meant in one way only', () => {
    const ofOne = lines.filter(([line, expected]) => expected.length === 1 && !line.endsWith(' '));
    const output = outputOf('zsh', ['-f', '-c', DRIVER, 'zsh', ...ofOne.map(([line]) => line)]);
    const completed = ofOne.map(([line, [word]]) => [...line.split(' ').slice(1, -1), word].join('|'));
    assert.ok(completed.length > 8);
    assert.deepEqual(
      output.trimEnd().split('\n'),
      completed.map((words) => `ran: <${words}>`),
    );
  });
});
