// What a process is among those of `sluice serve --workers`, and what it says to the one that started it.
// Stands alone: copy this file by itself.

/** The process that owns the log, or one that serves. */
export type Part =
  | { readonly role: 'owner'; readonly socket: string }
  | {
      readonly role: 'worker';
      readonly socket: string;
      /** From 1 on. A worker that takes the place of another one has its number. */
      readonly number: number;
      readonly port: number;
    };

/** What a process tells the one that started it. */
export type Report =
  /** It does its work. A worker says where it listens. */
  | { readonly ready: true; readonly url?: string | undefined }
  /** It could not begin. */
  | { readonly failed: { readonly message: string; readonly code: string | undefined } }
  /** The page of its own metrics, which it was asked for. */
  | { readonly page: string }
  /** It asks for the page of all. */
  | { readonly ask: 'metrics' };

/** What a process is told. */
export type Order =
  /** Stop: gracefully, or soon because there is no owner any more. */
  { readonly stop: 'gracefully' | 'soon' } | { readonly ask: 'page' } | { readonly metrics: string };

/** The variable by which a process learns its part. */
const VARIABLE = 'SLUICE_PART';

export function envOf(part: Part): Record<string, string> {
  return { [VARIABLE]: JSON.stringify(part) };
}

/** `undefined` for a process that no other one of `sluice serve` has started. */
export function partOf(env: Readonly<Record<string, string | undefined>>): Part | undefined {
  const text = env[VARIABLE];
  return text === undefined || process.send === undefined ? undefined : (JSON.parse(text) as Part);
}

export function report(message: Report): void {
  if (process.connected) process.send?.(message);
}

/**
 * Calls the function with each order, until the process that gives them has ended: that is an order to stop.
 */
export function onOrder(take: (order: Order) => void): void {
  process.on('message', (order: Order) => take(order));
  if (process.connected) process.once('disconnect', () => take({ stop: 'soon' }));
  else take({ stop: 'soon' });
}

/**
 * Reports what goes wrong before the work begins, and ends the process. Otherwise resolves with the exit
 * code.
 */
export async function reportingFailure(begin: () => Promise<number>): Promise<number> {
  try {
    return await begin();
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    await new Promise<unknown>((sent) =>
      process.send?.({ failed: { message, code } } satisfies Report, sent),
    );
    process.exit(1);
  }
}
