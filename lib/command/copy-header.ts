// Writes and reads the head of a copied file: where the copy comes from, its licence, and the hash of its text.
// Stands alone: copy this file by itself.

import { createHash } from 'node:crypto';

/** What the head of a copy says. */
export interface CopyHeader {
  /** The file that was copied: `encode.ts`. */
  readonly file: string;
  readonly version: string;
  /** The address of the project. */
  readonly origin: string;
  /** The identifier of the licence in the list of SPDX: `MIT`. */
  readonly license: string;
  /** The notice that the licence asks to keep: `Copyright (c) …`. */
  readonly copyright: string;
}

/** A copy as it was found. */
export interface Copied {
  /** What stands before the header, such as a comment for a linter; with LF at the end of its lines. */
  readonly before: string;
  readonly header: CopyHeader;
  /** The hash of the text when it was copied. */
  readonly hash: string;
  /** Whether the text is not the copied one any more. */
  readonly isChanged: boolean;
}

/** The text of a copy: the header, a blank line, and the text of the file as it is. */
export function withHeader({ file, version, origin, license, copyright }: CopyHeader, text: string): string {
  return `// ${file} from sluice ${version}, ${origin}
// SPDX-License-Identifier: ${license}
// ${copyright}
// Copied by \`sluice copy\`. sha256 of what follows: ${hashOf(text)}

${text}`;
}

/**
 * Reads a copy; `undefined` where there is no such header. Lines before the header, such as a comment for a
 * linter, are not a part of the copy, and line ends may be CRLF.
 */
export function readCopy(written: string): Copied | undefined {
  const text = written.replaceAll('\r\n', '\n');
  const found = HEADER.exec(text);
  if (found === null) return undefined;
  const [whole, file = '', version = '', origin = '', license = '', copyright = '', hash = ''] = found;
  const header = { file, version, origin, license, copyright };
  const rest = text.slice(found.index + whole.length);
  return { before: text.slice(0, found.index), header, hash, isChanged: hashOf(rest) !== hash };
}

const HEADER =
  /^\/\/ (\S+) from sluice (\S+), (\S+)\n\/\/ SPDX-License-Identifier: (.+)\n\/\/ (.+)\n\/\/ Copied by `sluice copy`\. sha256 of what follows: ([0-9a-f]{64})\n\n/m;

/** The hash of a text with LF at the end of its lines. */
export function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
