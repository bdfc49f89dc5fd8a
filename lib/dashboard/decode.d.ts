// The types of decode.js, which the TypeScript compiler generates from ../decode.ts.
export * from '../decode.ts';
