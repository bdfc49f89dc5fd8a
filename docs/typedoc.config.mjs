// The API reference: a page for each module of `exports` in package.json, made of the docstrings.
import { readFileSync } from 'node:fs';
import { Comment } from 'typedoc';

const { exports } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
const entries = Object.entries(exports).filter(([, { types }]) => types !== undefined);
const sourceOf = ({ types }) => types.replace(/^\.\/dist\/(.+)\.d\.ts$/, '../lib/$1.ts');

/** Calls each module as it is imported, `sluice/hub`, and describes it by the first line of its file. */
function describeModules(app) {
  const keys = new Map(entries.map(([key, target]) => [sourceOf(target), key]));
  const about = 'What each module of the package exports, as the comments of its code describe it.';
  app.converter.on('resolveBegin', ({ project }) => {
    project.comment = commentOf(about);
    for (const module of project.children) {
      const source = `../lib/${module.name}.ts`;
      const [first] = readFileSync(new URL(source, import.meta.url), 'utf8').split('\n');
      module.name = `sluice${keys.get(source).slice(1)}`;
      module.comment = commentOf(first.replace('// ', ''));
    }
  });
}

function commentOf(text) {
  return new Comment([{ kind: 'text', text }]);
}

/** @type {Partial<import('typedoc').TypeDocOptions & import('typedoc-plugin-markdown').PluginOptions>} */
export default {
  plugin: ['typedoc-plugin-markdown', describeModules],
  name: 'API reference',
  entryPoints: entries.map(([, target]) => sourceOf(target)),
  tsconfig: '../tsconfig.build.json',
  // `npm run check` does that, with another compiler.
  skipErrorChecking: true,
  out: 'reference',
  readme: 'none',
  disableGit: true,
  sourceLinkTemplate: 'https://github.com/sluicejs/sluice/blob/main/lib/{path}#L{line}',
  excludePrivate: true,
  excludeInternal: true,
  excludeExternals: true,
  externalSymbolLinkMappings: { '@types/node': { '*': 'https://nodejs.org/api/' } },
  treatWarningsAsErrors: true,
  // The signatures show types that no module exports.
  validation: { notExported: false, invalidLink: true },
  router: 'module',
  // Its links count names in another way than headings are counted, so they get anchors of their own.
  useHTMLAnchors: true,
  anchorPrefix: 'api-',
  sanitizeComments: true,
  hidePageHeader: true,
  hideBreadcrumbs: true,
  parametersFormat: 'table',
  pageTitleTemplates: { module: '{name}' },
};
