// The pages of the site: which Markdown files of the repository they are, their order, and their addresses.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of the repository. All other paths here are relative to it, with `/`. */
export const root: string = fileURLToPath(new URL('../..', import.meta.url));

export interface Group {
  readonly name: string;
  readonly pages: readonly string[];
}

/** A name that ends in `/` stands for the pages of that folder that no group names, its README.md first. */
const order: readonly Group[] = [
  { name: 'Start', pages: ['README.md', 'docs/start.md', 'docs/websocket.md', 'docs/migrating.md'] },
  {
    name: 'Guides',
    pages: ['docs/guides/', 'docs/generations.md', 'docs/models.md', 'docs/schemas.md', 'docs/protocols.md'],
  },
  { name: 'Recipes', pages: ['docs/recipes/'] },
  { name: 'Reading', pages: ['docs/client.md', 'docs/protocol.md'] },
  {
    name: 'Operating',
    pages: [
      'docs/operating.md',
      'docs/deploying.md',
      'docs/troubleshooting.md',
      'docs/doctor.md',
      'docs/load.md',
      'docs/performance.md',
    ],
  },
  { name: 'Reference', pages: ['docs/api.md', 'docs/errors.md', 'docs/reference/'] },
  {
    name: 'More',
    pages: [
      'docs/architecture.md',
      'docs/testing.md',
      'docs/copying.md',
      'docs/',
      'examples/',
      'bench/README.md',
      'CHANGELOG.md',
      'CONTRIBUTING.md',
      'CODE_OF_CONDUCT.md',
      'SECURITY.md',
    ],
  },
];

/** The groups of the sidebar, with the pages that are there. */
export const groups: readonly Group[] = order.map(({ name, pages }) => ({
  name,
  pages: pages.flatMap((page) =>
    page.endsWith('/') ? restOf(page) : existsSync(join(root, page)) ? [page] : [],
  ),
}));

export const pages: readonly string[] = groups.flatMap((group) => group.pages);

/** Where the site has each page: `docs/recipes/README.md` at `recipes/index.md`, the root's README.md at `index.md`. */
export const addresses: ReadonlyMap<string, string> = new Map(
  pages.map((page) => [page, page.replace(/^docs\//, '').replace(/(^|\/)README\.md$/, '$1index.md')]),
);

/**
 * The Markdown files of a folder that no group names, README.md before its neighbours: of `docs/` only its own, of
 * others also those of their folders.
 */
function restOf(folder: string): string[] {
  const named = new Set(order.flatMap((group) => group.pages));
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { recursive: folder !== 'docs/', withFileTypes: true })
    .filter(
      (entry) => entry.isFile() && entry.name.endsWith('.md') && !entry.parentPath.includes('node_modules'),
    )
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
    .filter((page) => !named.has(page))
    .sort((a, b) => sortKey(a).localeCompare(sortKey(b)));
}

function sortKey(page: string): string {
  return page.replace(/README\.md$/, '');
}

/** The first heading of a page. */
export function titleOf(page: string): string {
  const [, heading = ''] = /^# (.+)$/m.exec(readFileSync(join(root, page), 'utf8')) ?? [];
  return heading.replaceAll(/[`\\]/g, '');
}

/**
 * The first sentences of a page's first paragraph, as plain text of at most 200 characters. It has no `"`: VitePress puts
 * it into an attribute as it is.
 */
export function descriptionOf(page: string): string {
  const [, body = ''] = readFileSync(join(root, page), 'utf8').split(/^# .+$/m);
  const paragraph = body
    .replaceAll(/^```[\s\S]*?^```$|<!--[\s\S]*?-->/gm, '')
    .split(/\n{2,}/)
    .map((block) => block.trim())
    .find((block) => /^[*_`[(]*\w/.test(block) && !block.startsWith('Defined in'));
  const text = (paragraph ?? titleOf(page))
    .replaceAll(/\[([^\]]+)\]\([^)]*\)/g, '$1')
    .replaceAll(/[`*\\]|(?<!\w)_(?=\w)|(?<=\w)_(?!\w|…)/g, '')
    .replaceAll(/\s+/g, ' ')
    .replaceAll('"', "'")
    .replace(/:$/, '.');
  if (text.length <= 200) return text;
  const sentences = text.slice(0, 200).replace(/^(.*[.!?]) .*$/s, '$1');
  return sentences.length < 200 ? sentences : `${text.slice(0, 199).replace(/\s+\S*$/, '')}…`;
}
