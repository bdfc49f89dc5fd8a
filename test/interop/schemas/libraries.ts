// The same events as Zod and as Valibot define them. A tree refers to itself, and a date is text on the wire.
import { toStandardJsonSchema } from '@valibot/to-json-schema';
import * as v from 'valibot';
import { z } from 'zod';
import { defineEvents } from '../../../lib/schema.ts';

export interface Tree {
  name: string;
  children: Tree[];
}

const zodTree = z.object({
  name: z.string(),
  get children() {
    return z.array(zodTree);
  },
});

const valibotTree: v.GenericSchema<Tree> = v.object({
  name: v.string(),
  children: v.array(v.lazy(() => valibotTree)),
});

export const zod = defineEvents({
  tick: z.object({
    price: z.number(),
    at: z.iso.datetime().transform((text) => new Date(text)),
  }),
  tree: zodTree,
  message: z.string(),
});

export const valibot = defineEvents({
  tick: toStandardJsonSchema(
    v.object({
      price: v.number(),
      at: v.pipe(
        v.string(),
        v.isoTimestamp(),
        v.transform((text) => new Date(text)),
      ),
    }),
  ),
  tree: toStandardJsonSchema(valibotTree),
  message: toStandardJsonSchema(v.string()),
});
