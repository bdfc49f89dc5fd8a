// How often tests repeat: a little each time, and much more in `npm run long`.

/** `SLUICE_LONG=1` asks for the long form, and 0.25 for a quarter of that. */
const SHARE = Number(process.env.SLUICE_LONG ?? 0);

export const isLong: boolean = SHARE > 0;

/** How many times: as usual, or the share of the long form that is asked for. */
export function often(usual: number, long: number): number {
  return Math.max(usual, Math.round(long * SHARE));
}
