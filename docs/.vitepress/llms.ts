// llms.txt, llms-full.txt, and each page as Markdown: the documentation for language models. See https://llmstxt.org
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { resolveLink } from './links.ts';
import { addresses, descriptionOf, groups, pages, root, titleOf } from './pages.ts';

/** Writes them into the folder of the built site, which will be at this URL. */
export function writeLlms(folder: string, site: URL): void {
  const urlOf = (page: string): string => new URL(addresses.get(page)!, site).href;
  for (const page of pages) {
    const file = join(folder, addresses.get(page)!);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, markdownOf(page, site));
  }
  const sections = groups.map(({ name, pages: listed }) => {
    const lines = listed.map((page) => `- [${titleOf(page)}](${urlOf(page)}): ${descriptionOf(page)}`);
    return `## ${name}\n\n${lines.join('\n')}\n`;
  });
  const head = `# sluice\n\n> ${descriptionOf('README.md')}\n`;
  writeFileSync(join(folder, 'llms.txt'), [head, ...sections].join('\n'));
  // Not the reference: it says again what api.md says, at five times the length.
  const read = pages.filter((page) => !page.startsWith('docs/reference/'));
  writeFileSync(join(folder, 'llms-full.txt'), read.map((page) => markdownOf(page, site)).join('\n'));
}

/** The Markdown of a page with absolute links. */
function markdownOf(page: string, site: URL): string {
  return readFileSync(join(root, page), 'utf8')
    .split(/(^```[\s\S]*?^```$)/m)
    .map((part) =>
      part.startsWith('```')
        ? part
        : part.replaceAll(/(\]\()([^)\s]+)(\))/g, (_, before, link, after) => {
            const target = resolveLink(page, link);
            return before + (target.startsWith('/') ? new URL(target.slice(1), site).href : target) + after;
          }),
    )
    .join('');
}
