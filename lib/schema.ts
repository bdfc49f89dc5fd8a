// Defines the events of a stream by schemas: their types for both sides, and the check of every value.
// Needs `protocol.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.
//
//   const events = defineEvents({ tick: z.object({ price: z.number() }) });
//   const hub = new Hub({ events });             // refuses to publish what does not fit
//   for await (const { json } of connect(url, { events })) …     // reads what fits, as the schema returns it
//
// How it works: an event is text. `parse` reads that text as JSON and hands the value to the schema, on both sides
// alike. So a value that one side accepts is accepted by the other, and a schema that transforms its input does so
// where the event is read.

import { controlPrefix, isReservedEvent } from './protocol.ts';

/**
 * The members of a Standard Schema that are used. Those of Zod, Valibot, ArkType and others fit as they are.
 * @see https://standardschema.dev
 */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1;
    readonly validate: (value: unknown) => SchemaResult<Output> | PromiseLike<SchemaResult<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
    /** Of a schema that is a Standard JSON Schema as well. */
    readonly jsonSchema?:
      | { readonly input: (options: { readonly target: 'draft-2020-12' }) => JsonSchema }
      | undefined;
  };
}

export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** A JSON Schema of draft 2020-12. */
export type JsonSchema = Readonly<Record<string, unknown>>;

/** The schema of each event type. An event without a type has the type `message`. */
export type SchemaMap = Readonly<Record<string, StandardSchema>>;

/** What is published: the input of each schema, by event type. */
export type InputOf<Schemas extends SchemaMap> = {
  [Type in keyof Schemas & string]: NonNullable<Schemas[Type]['~standard']['types']>['input'];
};

/** What readers get: the output of each schema, by event type. */
export type OutputOf<Schemas extends SchemaMap> = {
  [Type in keyof Schemas & string]: NonNullable<Schemas[Type]['~standard']['types']>['output'];
};

export interface EventSchemasOptions<Type extends string = string> {
  /** The JSON Schemas of event types whose schemas cannot state their own, for descriptions. */
  readonly jsonSchemas?: { readonly [T in Type]?: JsonSchema | undefined } | undefined;
}

/** Made by {@link defineEvents}, for a hub, its readers and a description of the stream. */
export interface EventSchemas<Input extends object = object, Output extends object = object> {
  /** The event types. */
  readonly names: readonly string[];
  /** Whether there is a schema for the event type. */
  has(event: string): boolean;
  /**
   * Reads the data of an event: parses it as JSON, and returns what the schema of the event's type makes of it.
   *
   * @throws {InvalidEventError} for a type without a schema, data that is not JSON, a value that the schema refuses
   *   or cannot check because it throws.
   * @throws {TypeError} for a schema that validates asynchronously: no event could be published at once.
   */
  parse(event: string, data: string): unknown;
  /**
   * The JSON Schema of what is published: that of the options, else what the schema states itself. `undefined` where
   * neither does, or the schema has no form in JSON Schema.
   */
  jsonSchemaOf(event: string): JsonSchema | undefined;
  /** Exists for the compiler alone. */
  readonly types?: { readonly input: Input; readonly output: Output } | undefined;
}

/** The error of `parse`. Its message names the event, the place in the value, and what is wrong there. */
export interface InvalidEventError extends TypeError {
  readonly code: 'ERR_SSE_BAD_EVENT';
  /** The status to answer with where the event came from a client. */
  readonly status: 400;
}

/**
 * Defines events: a Standard Schema for the JSON of each event type. Give the result to `new Hub({ events })`, and
 * to `connect(url, { events })` in the programs that read.
 *
 * The schemas must validate synchronously, and take what JSON can express: a date is a string on the wire, which a
 * schema may turn into a `Date`.
 *
 * @throws {TypeError} naming what is no schema, a type that cannot be sent or is reserved, and a JSON Schema for an
 *   event type that is not defined.
 */
export function defineEvents<const Schemas extends SchemaMap>(
  schemas: Schemas,
  options: EventSchemasOptions<keyof Schemas & string> = {},
): EventSchemas<InputOf<Schemas>, OutputOf<Schemas>> {
  if (Object(schemas) !== schemas)
    throw new TypeError(`\`schemas\` must be an object of event types and schemas, got ${typeof schemas}`);
  const known = new Map(Object.entries(schemas));
  for (const [event, schema] of known) checkSchema(event, schema);
  const stated = new Map(Object.entries<JsonSchema | undefined>(options.jsonSchemas ?? {}));
  for (const event of stated.keys()) {
    if (!known.has(event))
      throw new TypeError(`\`jsonSchemas\` must be for defined event types, got ${shown(event)}`);
  }
  const names = [...known.keys()];
  return {
    names,
    has: (event) => known.has(event),
    parse(event, data) {
      const schema = known.get(event);
      if (schema === undefined) throw invalid(event, `is not defined: the types are ${listed(names)}`);
      return validated(event, schema, parsed(event, data));
    },
    jsonSchemaOf: (event) => stated.get(event) ?? ownJsonSchema(known.get(event)),
  };
}

function checkSchema(event: string, schema: unknown): void {
  if (isReservedEvent(event))
    throw new TypeError(
      `\`schemas\` must not have types that begin with "${controlPrefix}", got ${shown(event)}`,
    );
  if (event === '' || /[\r\n]/.test(event))
    throw new TypeError(`\`schemas\` must have types of one line, got ${shown(event)}`);
  const standard = (Object(schema) as Partial<StandardSchema>)['~standard'];
  if (standard?.version === 1 && typeof standard.validate === 'function') return;
  throw new TypeError(`\`schemas\` must be Standard Schemas, but that of ${shown(event)} is not`);
}

function parsed(event: string, data: string): unknown {
  try {
    return JSON.parse(data);
  } catch (cause) {
    throw invalid(event, `the data is not JSON: ${messageOf(cause)}`, { cause });
  }
}

function validated(event: string, schema: StandardSchema, value: unknown): unknown {
  const result = resultOf(event, schema, value);
  if ('then' in result) {
    result.then(undefined, () => {}); // or its rejection would end the process
    throw new TypeError(
      `the schema of event ${shown(event)} validates asynchronously: use one that does not wait`,
    );
  }
  if (!result.issues) return (result as { readonly value: unknown }).value;
  throw invalid(event, issueText(result.issues));
}

/** What throws refuses: a value that is nested too deeply must not look like a failure of the program. */
function resultOf(
  event: string,
  schema: StandardSchema,
  value: unknown,
): SchemaResult<unknown> | PromiseLike<SchemaResult<unknown>> {
  let result: unknown;
  try {
    result = schema['~standard'].validate(value);
  } catch (cause) {
    throw invalid(event, `the schema failed: ${messageOf(cause)}`, { cause });
  }
  if (Object(result) === result) return result as SchemaResult<unknown>;
  throw new TypeError(`the schema of event ${shown(event)} must return an object, got ${typeof result}`);
}

function ownJsonSchema(schema: StandardSchema | undefined): JsonSchema | undefined {
  try {
    return schema?.['~standard'].jsonSchema?.input({ target: 'draft-2020-12' });
  } catch {
    return undefined; // by the standard, it throws for what it cannot express
  }
}

// ── messages ──────────────────────────────────────────────────────────────────────────────────────────────

/** Others may have chosen the value, and with it the number of issues, their paths and their texts. */
const MOST_CHARACTERS = 200;
const MOST_KEYS = 10;
const MOST_NAMES = 10;

/** The first issue, and how many others there are. */
function issueText(issues: readonly SchemaIssue[]): string {
  const { path, message } = Object(issues[0]) as Partial<SchemaIssue>;
  const place = (path ?? []).slice(0, MOST_KEYS).map(keyText);
  const where = place.length === 0 ? '' : `${short(place.join('.'))}: `;
  const others = issues.length > 1 ? ` (and ${issues.length - 1} more)` : '';
  return `${where}${short(String(message ?? 'does not fit'))}${others}`;
}

function keyText(segment: PropertyKey | { readonly key: PropertyKey }): string {
  const key = typeof segment === 'object' ? segment.key : segment;
  return String(key).slice(0, MOST_CHARACTERS);
}

function invalid(event: string, reason: string, options?: { readonly cause: unknown }): InvalidEventError {
  const error = new TypeError(`event ${shown(event)}: ${reason}`, options);
  return Object.assign(error, { code: 'ERR_SSE_BAD_EVENT' as const, status: 400 as const });
}

function listed(names: readonly string[]): string {
  const some = names.slice(0, MOST_NAMES).map(shown).join(', ');
  return names.length > MOST_NAMES ? `${some} and ${names.length - MOST_NAMES} more` : some;
}

function shown(text: string): string {
  return short(JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text));
}

/** One line, without the control characters that a terminal obeys. */
function short(text: string): string {
  const line = text.slice(0, MOST_CHARACTERS).replace(/[\x00-\x1f\x7f-\x9f]+/g, ' ');
  return text.length > MOST_CHARACTERS ? `${line}…` : line;
}

function messageOf(cause: unknown): string {
  return short(cause instanceof Error ? cause.message : String(cause));
}
