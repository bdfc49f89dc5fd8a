// Finds the value stored for a method and a path, or the status to refuse the request with.
// Needs `target.ts` beside it.

import { splitTarget } from './target.ts';

/** The values of the parameters in the path, decoded. It has no prototype, so any parameter name is safe. */
export type Params = Readonly<Record<string, string>>;

export interface Found<T> {
  readonly status: 200;
  readonly value: T;
  readonly params: Params;
  /** The pattern that matched. Metrics and logs should have it in place of the path. */
  readonly pattern: string;
}

/** 400: the path is malformed. 404: no pattern matches. 405: one does, with other methods. */
export interface Missed {
  readonly status: 400 | 404 | 405;
  /** The methods for the `Allow` header; empty unless the status is 405. */
  readonly allow: readonly string[];
}

interface Branch<T> {
  readonly literal: Map<string, Branch<T>>;
  parameter: { readonly name: string; readonly node: Branch<T> } | undefined;
  readonly methods: Map<string, { readonly value: T; readonly pattern: string }>;
}

/**
 * Stores one value per method and pattern. A pattern consists of segments: `/topics/:topic` has a literal one
 * and a parameter. Literals take precedence over parameters. `HEAD` falls back to `GET`.
 *
 * The path is split by hand, not by `URL`: dots, empty segments and encoded slashes have no special meaning,
 * and nothing that a client sends makes `find` throw (`new URL('//[')` and `decodeURIComponent('/%')` throw).
 */
export class Router<T> {
  readonly #root: Branch<T> = createBranch();

  /**
   * @throws {TypeError} for a pattern that does not begin with `/`; for a parameter without a name, used
   *   twice, or in the place of one with another name; for a method and pattern that are stored already.
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

  /** Looks up a request's method and target (`req.url`). The query is ignored. */
  find(method: string, target: string): Found<T> | Missed {
    const path = splitTarget(target)?.path;
    if (path === undefined) return { status: 400, allow: [] };
    const params: Record<string, string> = Object.create(null);
    const node = match(this.#root, path.slice(1).split('/'), 0, params);
    if (node === 'malformed') return { status: 400, allow: [] };
    if (node === undefined) return { status: 404, allow: [] };
    const route = node.methods.get(method) ?? (method === 'HEAD' ? node.methods.get('GET') : undefined);
    if (route === undefined) return { status: 405, allow: allowed(node) };
    return { status: 200, value: route.value, params, pattern: route.pattern };
  }
}

function createBranch<T>(): Branch<T> {
  return { literal: new Map(), parameter: undefined, methods: new Map() };
}

function checkRepeated(segments: readonly string[], pattern: string): void {
  for (const [index, segment] of segments.entries()) {
    if (!segment.startsWith(':') || segments.indexOf(segment) === index) continue;
    throw new TypeError(`"${segment}" occurs twice in "${pattern}"`);
  }
}

function descend<T>(node: Branch<T>, segment: string, pattern: string): Branch<T> {
  if (segment.startsWith(':')) return descendParameter(node, segment.slice(1), pattern);
  const child = node.literal.get(segment) ?? createBranch<T>();
  node.literal.set(segment, child);
  return child;
}

function descendParameter<T>(node: Branch<T>, name: string, pattern: string): Branch<T> {
  if (name === '') throw new TypeError(`a parameter of "${pattern}" has no name`);
  node.parameter ??= { name, node: createBranch<T>() };
  if (node.parameter.name === name) return node.parameter.node;
  throw new TypeError(`":${name}" of "${pattern}" is ":${node.parameter.name}" in another pattern`);
}

function match<T>(
  node: Branch<T>,
  segments: readonly string[],
  depth: number,
  params: Record<string, string>,
): Branch<T> | 'malformed' | undefined {
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

function allowed<T>(node: Branch<T>): string[] {
  const methods = [...node.methods.keys()];
  return node.methods.has('GET') && !node.methods.has('HEAD') ? [...methods, 'HEAD'] : methods;
}
