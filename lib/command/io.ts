// The streams, environment and stop signal of a command, and text that is safe to print on a terminal.
// Stands alone: copy this file by itself.

/**
 * The input, outputs, environment and stop signal of a command: those of `process`, or `PassThrough`s in a
 * test.
 */
export interface CommandIo {
  readonly stdin: CommandInput;
  readonly stdout: CommandOutput;
  readonly stderr: CommandOutput;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Stops the command when it aborts, as SIGINT and SIGTERM do. */
  readonly signal: AbortSignal;
}

export interface CommandInput extends AsyncIterable<Uint8Array | string> {
  destroy?(): unknown;
}

type CommandOutput = NodeJS.WritableStream & { readonly isTTY?: boolean | undefined };

/** A command; `argv` has the words after its name. Resolves with the exit code. Rejects where it failed. */
export type Command = (argv: readonly string[], io: CommandIo) => Promise<number>;

/** Writes one line to stderr: `sluice tail: the server answered 404`. */
export function report({ stderr }: CommandIo, program: string, message: string): void {
  // By lines, as a pattern such as `\s*\n\s*` takes hours for a million spaces, which a server may send.
  const lines = message.split('\n').map((line) => line.trim());
  stderr.write(`${program}: ${escapeControls(lines.filter(Boolean).join(' '))}\n`);
}

/**
 * Shows control characters as `\x1b`, except tab and line feed. For text from other sources: printed
 * unchanged, it could move the cursor of a terminal, change its title or type for the user.
 */
export function escapeControls(text: string): string {
  return text.replaceAll(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, (control) => `\\x${hex(control)}`);
}

/** One line of JSON. */
export function jsonLine(value: unknown): string {
  return `${escapeJson(JSON.stringify(value))}\n`;
}

/** The same JSON without U+007F to U+009F, on which some terminals act. They may stand in strings as they are. */
export function escapeJson(json: string): string {
  return json.replaceAll(/[\x7f-\x9f]/g, (control) => `\\u00${hex(control)}`);
}

function hex(character: string): string {
  return character.charCodeAt(0).toString(16).padStart(2, '0');
}
