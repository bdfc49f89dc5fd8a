// The standard's parsing algorithm, written as it reads: slow, whole streams only, and plainly right.
import type { Read } from '../fixtures/format.ts';

export interface ModelResult {
  readonly reads: Read[];
  readonly retries: number[];
  readonly comments: string[];
  readonly lastEventId: string;
}

export function readByTheStandard(stream: Uint8Array | string): ModelResult {
  const decoded =
    typeof stream === 'string' ? stream : new TextDecoder('utf-8', { ignoreBOM: true }).decode(stream);
  const text = decoded.replace(/^\uFEFF/, '');
  const lines = text.split(/\r\n|\r|\n/);
  lines.pop(); // What has no line end is no line.
  const reads: Read[] = [];
  const retries: number[] = [];
  const comments: string[] = [];
  let [data, type, id, lastEventId] = ['', '', '', ''];
  for (const line of lines) {
    if (line === '') {
      lastEventId = id;
      if (data !== '') reads.push([type || 'message', data.slice(0, -1), lastEventId]);
      data = type = '';
      continue;
    }
    const [, name = '', rest = ''] = /^([^:]*):?(.*)$/s.exec(line)!;
    const value = rest.replace(/^ /, '');
    if (line.startsWith(':')) comments.push(value);
    else if (name === 'data') data += `${value}\n`;
    else if (name === 'event') type = value;
    else if (name === 'id' && !value.includes('\0')) id = value;
    else if (name === 'retry' && /^[0-9]+$/.test(value)) retries.push(Number(value));
  }
  return { reads, retries, comments, lastEventId };
}
