// What a command is connected to: streams, environment and stop signal; and text that no terminal acts on.
// Stands alone: copy this file by itself.

/** What a command reads, writes and is stopped by: those of `process`, or `PassThrough`s in a test. */
export interface CommandIo {
  readonly stdin: CommandInput;
  readonly stdout: CommandOutput;
  readonly stderr: CommandOutput;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Asks the command to stop, as SIGINT and SIGTERM do. */
  readonly signal: AbortSignal;
}

export interface CommandInput extends AsyncIterable<Uint8Array | string> {
  destroy?(): unknown;
}

export type CommandOutput = NodeJS.WritableStream & { readonly isTTY?: boolean | undefined };

/** A command; `argv` is what follows its name. Resolves with the exit code. Rejects where it failed. */
export type Command = (argv: readonly string[], io: CommandIo) => Promise<number>;

/** Writes one line to stderr: `sluice tail: the server answered 404`. */
export function report({ stderr }: CommandIo, program: string, message: string): void {
  stderr.write(`${program}: ${escapeControls(message.trim().replaceAll(/\s*\n\s*/g, ' '))}\n`);
}

/**
 * Shows control characters as `\x1b`, except tab and line feed. For text from elsewhere: written to a
 * terminal as it is, it could move the cursor, change the title or answer in the user's place.
 */
export function escapeControls(text: string): string {
  return text.replaceAll(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, (control) => `\\x${hex(control)}`);
}

/** One line of JSON. `JSON.stringify` leaves U+007F to U+009F as they are; some terminals act on those. */
export function jsonLine(value: unknown): string {
  return `${JSON.stringify(value).replaceAll(/[\x7f-\x9f]/g, (control) => `\\u00${hex(control)}`)}\n`;
}

function hex(character: string): string {
  return character.charCodeAt(0).toString(16).padStart(2, '0');
}
