// Splits the target of a request into authority, path and query.
// Stands alone: copy this file by itself.

/** The parts of a request's target, as they were sent. */
export interface Target {
  /** `host:port` in lower case, of an absolute-form target; it takes precedence over the Host header. */
  readonly authority: string | undefined;
  /** Begins with `/`. */
  readonly path: string;
  /** Without the `?`; `''` where there is none. */
  readonly query: string;
}

/**
 * Splits `/path?query`, and `http://host/path?query`, which servers must accept too. `undefined` for any
 * other, such as `*`.
 *
 * The target is split by hand, because nothing that a client sends may throw: `new URL('//[')` does.
 *
 * @see https://www.rfc-editor.org/rfc/rfc9112#section-3.2
 */
export function splitTarget(target: string | undefined): Target | undefined {
  const [, authority, rest = ''] = ABSOLUTE.exec(target ?? '') ?? [undefined, undefined, target ?? ''];
  if (authority === undefined && !rest.startsWith('/')) return undefined;
  const [withoutFragment = ''] = rest.split('#', 1);
  const mark = withoutFragment.indexOf('?');
  const path = mark === -1 ? withoutFragment : withoutFragment.slice(0, mark);
  return {
    authority: authority?.toLowerCase(),
    path: path === '' ? '/' : path,
    query: mark === -1 ? '' : withoutFragment.slice(mark + 1),
  };
}

const ABSOLUTE = /^https?:\/\/([^/?#]+)([\s\S]*)$/i;
