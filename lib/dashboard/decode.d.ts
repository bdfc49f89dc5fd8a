// The types of what the dashboard uses of decode.js, which the TypeScript compiler generates from ../decode.ts.
export declare function createDecoder(options: {
  readonly maxLineBytes: number;
  readonly maxEventBytes: number;
  readonly onComment: (text: string) => void;
  readonly onRetry: (ms: number) => void;
  readonly onEvent: (event: {
    readonly event: string;
    readonly data: string;
    readonly lastEventId: string;
  }) => void;
}): { feed(chunk: string): void };
