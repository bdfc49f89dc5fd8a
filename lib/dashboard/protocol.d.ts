// The types of protocol.js, which the TypeScript compiler generates from ../protocol.ts.
export * from '../protocol.ts';
