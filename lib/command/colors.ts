// Colours for what people read: whether to use them, and how.
// Stands alone: copy this file by itself.

const CODES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, blue: 34, cyan: 36 } as const;

export type Color = keyof typeof CODES;

/** Colours a text, or returns it as it is. */
export type Paint = (color: Color, text: string) => string;

/**
 * How to colour what is written to this output: as a terminal does, or not at all. `FORCE_COLOR` decides where it
 * is set (`0` and `false`: no colours), then a `NO_COLOR` that is not empty, then whether the output is a terminal
 * other than a `dumb` one. For reports only: the data of events has no colours in a pipe, whatever is set.
 */
export function paintFor(
  { isTTY = false }: { readonly isTTY?: boolean | undefined },
  { FORCE_COLOR, NO_COLOR, TERM }: Readonly<Record<string, string | undefined>>,
): Paint {
  const isColored =
    FORCE_COLOR === undefined
      ? isTTY && !NO_COLOR && TERM !== 'dumb'
      : FORCE_COLOR !== '0' && FORCE_COLOR !== 'false';
  return isColored ? (color, text) => `\x1b[${CODES[color]}m${text}\x1b[0m` : (_, text) => text;
}

/** The lines about the variables in the help of a command. */
export const COLOR_ENVIRONMENT = `\
  NO_COLOR      no colours, where it is not empty
  FORCE_COLOR   colours also where the output is no terminal; 0: none`;
