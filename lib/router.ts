// Finds what was stored for a method and a path, or the right refusal.
// Stands alone: copy this file by itself.

/** The path's named parts, decoded. Without a prototype, so that no name of a part means anything else. */
export type Params = Readonly<Record<string, string>>;

export interface Found<T> {
  readonly status: 200;
  readonly value: T;
  readonly params: Params;
  /** The pattern that matched: what a metric or a log may carry in the path's place. */
  readonly pattern: string;
}

/** 400: not a path that can be read. 404: nothing there. 405: there, with the methods that are allowed. */
export interface Missed {
  readonly status: 400 | 404 | 405;
  /** For the `Allow` header; empty unless the status is 405. */
  readonly allow: readonly string[];
}

interface Node<T> {
  readonly literal: Map<string, Node<T>>;
  parameter: { readonly name: string; readonly node: Node<T> } | undefined;
  readonly methods: Map<string, { readonly value: T; readonly pattern: string }>;
}

/**
 * Stores one value per method and pattern. Patterns are segments: `/topics/:topic` has a literal and a
 * parameter; a literal wins over a parameter. `HEAD` falls back to `GET`.
 *
 * The path is read by hand, segment by segment: dots, empty segments and an encoded slash have no power,
 * and nothing that a client sends can throw (`new URL('//[')` and `decodeURIComponent('/%')` do).
 */
export class Router<T> {
  readonly #root: Node<T> = createNode();

  /**
   * @throws {TypeError} for a pattern that does not begin with `/`, an unnamed, renamed or repeated parameter, or
   *   a method and pattern that are stored already.
   */
  add(method: string, pattern: string, value: T): this {
    if (!pattern.startsWith('/')) throw new TypeError(`\`pattern\` must begin with "/", got "${pattern}"`);
    const segments = pattern.slice(1).split('/');
    checkRepeated(segments, pattern);
    let node = this.#root;
    for (const segment of segments) node = descend(node, segment, pattern);
    if (node.methods.has(method)) throw new TypeError(`${method} ${pattern} is stored already`);
    node.methods.set(method, { value, pattern });
    return this;
  }

  /** Looks up a request's method and target (`req.url`); a query is left out of account. */
  find(method: string, target: string): Found<T> | Missed {
    if (!target.startsWith('/')) return { status: 400, allow: [] };
    const end = target.search(/[?#]/);
    const path = end === -1 ? target : target.slice(0, end);
    const params: Record<string, string> = Object.create(null);
    const node = match(this.#root, path.slice(1).split('/'), 0, params);
    if (node === 'malformed') return { status: 400, allow: [] };
    if (node === undefined) return { status: 404, allow: [] };
    const route = node.methods.get(method) ?? (method === 'HEAD' ? node.methods.get('GET') : undefined);
    if (route === undefined) return { status: 405, allow: allowed(node) };
    return { status: 200, value: route.value, params, pattern: route.pattern };
  }
}

function createNode<T>(): Node<T> {
  return { literal: new Map(), parameter: undefined, methods: new Map() };
}

function checkRepeated(segments: readonly string[], pattern: string): void {
  for (const [index, segment] of segments.entries()) {
    if (!segment.startsWith(':') || segments.indexOf(segment) === index) continue;
    throw new TypeError(`"${segment}" is twice in "${pattern}"`);
  }
}

function descend<T>(node: Node<T>, segment: string, pattern: string): Node<T> {
  if (segment.startsWith(':')) return descendParameter(node, segment.slice(1), pattern);
  const child = node.literal.get(segment) ?? createNode<T>();
  node.literal.set(segment, child);
  return child;
}

function descendParameter<T>(node: Node<T>, name: string, pattern: string): Node<T> {
  if (name === '') throw new TypeError(`a parameter of "${pattern}" has no name`);
  node.parameter ??= { name, node: createNode<T>() };
  if (node.parameter.name === name) return node.parameter.node;
  throw new TypeError(`":${name}" of "${pattern}" is called ":${node.parameter.name}" elsewhere`);
}

function match<T>(
  node: Node<T>,
  segments: readonly string[],
  depth: number,
  params: Record<string, string>,
): Node<T> | 'malformed' | undefined {
  const segment = segments[depth];
  if (segment === undefined) return node.methods.size > 0 ? node : undefined;
  const literal = node.literal.get(segment);
  const found = literal && match(literal, segments, depth + 1, params);
  if (found !== undefined || node.parameter === undefined || segment === '') return found;
  const value = decodeSegment(segment);
  if (value === undefined) return 'malformed';
  const behind = match(node.parameter.node, segments, depth + 1, params);
  if (typeof behind === 'object') params[node.parameter.name] = value;
  return behind;
}

function decodeSegment(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment);
  } catch {
    return undefined;
  }
}

function allowed<T>(node: Node<T>): string[] {
  const methods = [...node.methods.keys()];
  return node.methods.has('GET') && !node.methods.has('HEAD') ? [...methods, 'HEAD'] : methods;
}
