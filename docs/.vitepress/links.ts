// Links between the files of the repository, which GitHub follows as they are, become links of the site.
import { existsSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { addresses, root } from './pages.ts';

export const repository = 'https://github.com/sluicejs/sluice';

/**
 * The address of what a page links to: `/recipes/express.md#anchor` for a page of the site, and GitHub's for any other
 * file. Links to other sites and within the page stay.
 *
 * @param page The file that has the link, relative to the repository.
 * @throws where the repository has no such file.
 */
export function resolveLink(page: string, link: string): string {
  if (/^(?:[a-z]+:|#|\/\/)/.test(link)) return link;
  const [path = '', anchor] = link.split('#');
  const file = relative(root, join(root, dirname(page), decodeURI(path))).replaceAll('\\', '/');
  const hash = anchor === undefined ? '' : `#${anchor}`;
  const address = addresses.get(file) ?? addresses.get(`${file}/README.md`);
  if (address !== undefined) return `/${address}${hash}`;
  if (file.startsWith('..') || !existsSync(join(root, file)))
    throw new Error(`${page} links to ${link}, and there is no ${file}`);
  return `${repository}/blob/main/${file}${hash}`;
}
