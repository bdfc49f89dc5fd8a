// Renders Markdown as GitHub does: its anchors, its links, and no more than text in text and code.
import { relative } from 'node:path';
import { slug } from 'github-slugger';
import type { MarkdownOptions } from 'vitepress';
import { resolveLink } from './links.ts';
import { root } from './pages.ts';

export const markdown: MarkdownOptions = {
  theme: { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' },
  anchor: { slugify: slug },
  config(md) {
    // A name such as `events.db` is no link.
    md.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
    md.core.ruler.push('links-of-the-repository', ({ tokens, env }) => {
      const page = relative(root, env.realPath ?? env.path).replaceAll('\\', '/');
      for (const token of tokens.flatMap(({ children }) => children ?? []))
        if (token.type === 'link_open') token.attrSet('href', resolveLink(page, token.attrGet('href') ?? ''));
    });
    // Vue would take `{{ … }}` for a template.
    const { text, code_inline } = md.renderer.rules;
    md.renderer.rules.text = (...args) => text!(...args).replaceAll('{{', '&#123;&#123;');
    md.renderer.rules.code_inline = (...args) => code_inline!(...args).replaceAll('{{', '&#123;&#123;');
    // Long lines are scrolled, also with the keyboard.
    md.renderer.rules.code_block = (tokens, index) =>
      `<pre v-pre tabindex="0"><code>${md.utils.escapeHtml(tokens[index]!.content)}</code></pre>\n`;
  },
};
