// What shells must propose for unfinished lines of the `sluice` command.

/** A line as far as it is typed, and the words that may stand in the place of its last one. */
export const lines: readonly (readonly [string, readonly string[]])[] = [
  ['sluice ta', ['tail']],
  ['sluice he', ['help']],
  ['sluice serve --log-le', ['--log-level']],
  ['sluice serve --log-level ', ['error', 'info', 'warn']],
  ['sluice serve --log-level w', ['warn']],
  ['sluice serve --port 80 --log-durability po', ['power']],
  ['sluice tail --from ', ['earliest']],
  ['sluice tail --json --timesta', ['--timestamps']],
  ['sluice publish --token-f', ['--token-file']],
  ['sluice tail --state pos', ['position one', 'position-two']],
  ['sluice serve --tail position-', ['position-two']],
  ['sluice completion ', ['bash', 'fish', 'zsh']],
  ['sluice help do', ['doctor']],
  ['sluice copy --for', ['--force']],
  ['sluice copy encode po', ['position one', 'position-two']],
  ['sluice copy --js encode position-', ['position-two']],
  ['sluice publish http://127.0.0.1/ tail --timesta', []],
  ['sluice serve po', []],
  ['sluice serve --port ', []],
  ['sluice publish --event po', []],
  ['sluice nothing --log-le', []],
];

/** The files of the folder in which the lines are typed. */
export const files: readonly string[] = ['position one', 'position-two'];
