// The site: the Markdown of docs/ and of some other folders, as it is, and the reference that TypeDoc has made of the
// docstrings. pages.ts says which pages there are.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type DefaultTheme, defineConfig, type Plugin, type UserConfig } from 'vitepress';
import { repository } from './links.ts';
import { writeLlms } from './llms.ts';
import { markdown } from './markdown.ts';
import { addresses, descriptionOf, type Group, groups, root, titleOf } from './pages.ts';

/** Where the site will be: its path becomes the base of all links. */
const url = new URL(process.env.SITE_URL ?? 'https://sluicejs.github.io/sluice/');
if (!url.pathname.endsWith('/') || url.search !== '' || url.hash !== '')
  throw new RangeError(`SITE_URL must be a URL that ends in "/", got ${url.href}`);

const icon = readFileSync(join(root, 'lib/dashboard/icon.svg'), 'utf8');

const itemOf = (page: string): DefaultTheme.SidebarItem => ({
  text: titleOf(page),
  link: `/${addresses.get(page)!.replace(/(^|\/)index\.md$/, '$1')}`,
});

/** An item that is the first page, and unfolds the others. */
function foldedOf(text: string, [first = '', ...others]: readonly string[]): DefaultTheme.SidebarItem {
  return { ...itemOf(first), text, collapsed: true, items: others.map(itemOf) };
}

/** What the sidebar calls the folders of which it shows one item, to be unfolded. */
const FOLDED: Readonly<Record<string, string>> = {
  'docs/recipes/': 'Recipes',
  'docs/reference/': 'Modules',
  'examples/': 'Examples',
};
const foldedFolderOf = (page: string): string | undefined =>
  Object.keys(FOLDED).find((folder) => page.startsWith(folder));

function groupOf({ name, pages }: Group): DefaultTheme.SidebarItem {
  const items = pages.flatMap((page, index) => {
    const folder = foldedFolderOf(page);
    if (folder === undefined) return [itemOf(page)];
    if (pages[index - 1]?.startsWith(folder)) return [];
    const inside = pages.filter((one) => one.startsWith(folder));
    return [foldedOf(FOLDED[folder]!, inside)];
  });
  return items.length === 1 && items[0]!.text === name ? items[0]! : { text: name, items };
}

/** Finds Vue for the pages that lie above the folder of the packages. */
const vueForAllPages: Plugin = {
  name: 'vue-for-all-pages',
  enforce: 'pre',
  resolveId(source, importer, options) {
    if (!/^vue($|\/)/.test(source) || importer?.includes('node_modules')) return null;
    return this.resolve(source, fileURLToPath(import.meta.url), { ...options, skipSelf: true });
  },
};

const config: UserConfig<DefaultTheme.Config> = defineConfig({
  title: 'sluice',
  description: descriptionOf('README.md'),
  lang: 'en',
  base: url.pathname,
  head: [['link', { rel: 'icon', href: `data:image/svg+xml,${encodeURIComponent(icon)}` }]],
  srcDir: '..',
  // All Markdown but that of the pages.
  srcExclude: [
    '!(README|CHANGELOG|CONTRIBUTING|CODE_OF_CONDUCT|SECURITY).md',
    '!(docs|examples|bench)/**/*',
    'bench/*/**',
    'docs/{api-report,.vitepress}/**',
  ],
  // Of servers that the reader has started.
  ignoreDeadLinks: 'localhostLinks',
  vite: {
    plugins: [vueForAllPages],
    // The largest chunk is the index of the search, which is loaded when somebody searches.
    build: { chunkSizeWarningLimit: 3000 },
    // Other HTML of the repository is not the site's.
    optimizeDeps: { entries: [] },
  },
  rewrites: Object.fromEntries(addresses),
  markdown,
  transformPageData({ filePath, frontmatter }) {
    const title = titleOf(filePath);
    const among = FOLDED[foldedFolderOf(filePath) ?? ''] ?? title;
    return {
      title,
      titleTemplate: among === title ? undefined : `:title | ${among} | sluice`,
      description: descriptionOf(filePath),
      frontmatter: filePath.startsWith('docs/reference/') ? { ...frontmatter, editLink: false } : frontmatter,
    };
  },
  themeConfig: {
    sidebar: groups.filter(({ pages }) => pages.length > 0).map(groupOf),
    outline: [2, 3],
    search: {
      provider: 'local',
      // These name what the other pages explain.
      options: {
        miniSearch: {
          searchOptions: { boostDocument: (id) => (/\/(reference\/|CHANGELOG)/.test(id) ? 0.2 : 1) },
        },
      },
    },
    nav: [{ text: 'GitHub', link: repository }],
    editLink: { pattern: `${repository}/edit/main/:path`, text: 'Edit this page on GitHub' },
  },
  buildEnd: ({ outDir }) => writeLlms(outDir, url),
});

export default config;
