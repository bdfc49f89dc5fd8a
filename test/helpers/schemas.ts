// Standard Schemas by hand, for tests of what uses them. Those of real libraries are in test/interop/schemas.
import type { JsonSchema, SchemaIssue, SchemaResult, StandardSchema } from '../../lib/schema.ts';

/** A schema that does what the function does. */
export function schemaOf<Input, Output = Input>(
  validate: (value: unknown) => unknown,
  jsonSchema?: () => JsonSchema,
): StandardSchema<Input, Output> {
  const converter = jsonSchema && { jsonSchema: { input: jsonSchema } };
  return {
    '~standard': {
      version: 1,
      validate: validate as (value: unknown) => SchemaResult<Output>,
      ...converter,
    },
  };
}

export interface TickInput {
  price: number;
  at: string;
}

export interface Tick {
  price: number;
  at: Date;
}

const tickJsonSchema = {
  type: 'object',
  properties: { price: { type: 'number' }, at: { type: 'string' } },
  required: ['price', 'at'],
};

/** A price and a date, which is text on the wire. */
export const tick: StandardSchema<TickInput, Tick> = schemaOf(
  (value) => {
    const { price, at } = Object(value) as Record<string, unknown>;
    const issues: SchemaIssue[] = [];
    if (typeof price !== 'number')
      issues.push({ path: ['price'], message: `expected a number, got ${price}` });
    if (typeof at !== 'string') issues.push({ path: [{ key: 'at' }], message: 'expected text' });
    return issues.length > 0 ? { issues } : { value: { price, at: new Date(at as string) } };
  },
  () => tickJsonSchema,
);

export const halt: StandardSchema<null> = schemaOf((value) =>
  value === null ? { value } : { issues: [{ message: 'expected nothing' }] },
);
