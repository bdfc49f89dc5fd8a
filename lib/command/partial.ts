// Tells by a URL of sluice whether its stream has only some of the events.
// Stands alone: copy this file by itself.

/** The parameter because of which streams do not get all events, and each may get others. */
export function partialBy({ searchParams }: URL): string | undefined {
  return ['conflate', 'last'].find((name) => searchParams.has(name));
}
