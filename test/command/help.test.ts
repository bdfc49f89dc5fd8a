import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readOptions } from '../../lib/command/argv.ts';
import { COMMANDS } from '../../lib/command/cli.ts';
import { run } from '../helpers/command.ts';

const sectionOf = (help: string, name: string): string =>
  new RegExp(`^${name}:\n((?: .*\n)+)`, 'm').exec(help)?.[1] ?? '';

describe('sluice help', () => {
  it('lists every command with what it does', async () => {
    const { stdout, code } = await run('help', []);
    assert.equal(code, 0);
    for (const [name, { about }] of Object.entries(COMMANDS)) {
      assert.match(stdout, new RegExp(`^  ${name} +`, 'm'));
      assert.ok(stdout.includes(about), about);
    }
    assert.deepEqual(await run('--help', []), { code: 0, stdout, stderr: '' });
  });

  it('names the command that was meant', async () => {
    assert.deepEqual(await run('help', ['sevre']), {
      code: 2,
      stdout: '',
      stderr: 'sluice help: unknown command "sevre" (did you mean serve?); see sluice help --help\n',
    });
  });

  for (const [name, { options }] of Object.entries(COMMANDS)) {
    describe(name, () => {
      const text = run('help', [name]).then(({ stdout }) => stdout);

      it('is what --help prints', async () => {
        assert.deepEqual(await run(name, ['--help']), { code: 0, stdout: await text, stderr: '' });
      });

      it('describes every option, and no other', async () => {
        // Each stands at the beginning of a line, alone, after its short form, or after another one.
        const lines = (await text).matchAll(/^ {2,6}(?:-\w, )?(--[a-z].*)$/gm);
        const described = Array.from(lines, ([, line = '']) => line.split(/ {2,}/)[0]!).flatMap((names) =>
          Array.from(names.matchAll(/--([a-z-]+)/g), ([, option = '']) => option),
        );
        assert.deepEqual(described.sort(), Object.keys(options).sort());
      });

      it('has the exit codes, the environment and examples, in lines of at most 120 characters', async () => {
        const help = await text;
        assert.match(sectionOf(help, 'Exit codes'), /^ {2}0 {2}\S/);
        // What takes a token takes it from the environment too.
        const takesToken = Object.keys(options).some((option) => option.endsWith('token'));
        assert.equal(/^Environment:.*^ {2}SLUICE_/ms.test(help), takesToken);
        for (const line of help.split('\n')) assert.ok(line.length <= 120, line);
      });

      it('has examples that the command accepts', async () => {
        const examples = sectionOf(await text, 'Examples')
          .trimEnd()
          .split('\n');
        assert.ok(examples.length >= 2);
        for (const example of examples) {
          const [, words] = new RegExp(`\\bsluice ${name} ([^|<]+)`).exec(example) ?? [];
          assert.ok(words !== undefined, example);
          readOptions(words.trim().split(/ +/), options);
        }
      });
    });
  }
});
