// Builds the site of the documentation, and reads it: do its links lead somewhere, does the search find, can everybody
// read it? `npm ci --prefix docs`, `npm ci --prefix test/interop` and a Chromium, then
// `npx tsx --test test/interop/site.test.ts`.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join, relative } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type axe from 'axe-core';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { launchChromium } from './helpers/chromium.ts';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'sluice-site-'));

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.md': 'text/markdown; charset=utf-8',
  '.txt': 'text/plain; charset=utf-8',
  '.json': 'application/json',
};

// Serves the built site, below a path that is not the default one.
const base = '/some/where/';
const server = createServer((req, res) => {
  const { pathname } = new URL(req.url!, 'http://localhost');
  const file = join(
    folder,
    decodeURI(pathname.slice(base.length)),
    pathname.endsWith('/') ? 'index.html' : '',
  );
  if (!pathname.startsWith(base) || !existsSync(file)) return res.writeHead(404).end();
  return res.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'image/png' }).end(readFileSync(file));
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const site = `http://127.0.0.1:${(server.address() as AddressInfo).port}${base}`;
let browser: Browser;
let context: BrowserContext;
/** What the pages have asked for. */
const requests: string[] = [];

before(async () => {
  browser = await launchChromium();
  context = await browser.newContext();
  context.setDefaultTimeout(120_000);
  context.on('request', (request) => requests.push(request.url()));
});

after(async () => {
  await browser?.close();
  server.close();
  server.closeAllConnections();
  rmSync(folder, { recursive: true });
});

const build = ['--prefix', 'docs', 'run', 'build', '--', '--outDir', folder];
await promisify(execFile)('npm', build, { cwd: root, env: { ...process.env, SITE_URL: site } });
// Only now are the pages of the reference there, which these look for.
const { addresses, groups } = await import('../../docs/.vitepress/pages.ts');
const { repository, resolveLink } = await import('../../docs/.vitepress/links.ts');
const { markdown } = await import('../../docs/.vitepress/markdown.ts');

const filesOf = (directory: string, extension: string): string[] =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(extension))
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)));

const built = (file: string): string => readFileSync(join(folder, file), 'utf8');
const htmlPages = (): string[] => filesOf(folder, '.html').filter((file) => file !== '404.html');
const valuesOf = (html: string, pattern: RegExp): string[] =>
  Array.from(html.matchAll(pattern), ([, value = '']) => value.replaceAll('&amp;', '&'));

describe('the site', () => {
  it('has each page of docs/, the README and the pages of the repository, and no other', () => {
    const written = filesOf(join(root, 'docs'), '.md').filter(
      (file) => !/^(?:api-report|reference|node_modules|\.vitepress)\//.test(file),
    );
    for (const file of written)
      assert.ok(addresses.has(`docs/${file}`), `${file} is in no group of pages.ts`);
    const expected = [...addresses.values()].map((address) => address.replace(/md$/, 'html'));
    assert.deepEqual(htmlPages().sort(), expected.sort());
    assert.match(built('index.html'), /<h1[^>]*>sluice/);
  });

  it('needs nothing in its pages that GitHub does not show: no front matter, containers or includes', () => {
    for (const page of addresses.keys()) {
      const text = readFileSync(join(root, page), 'utf8');
      assert.ok(!text.startsWith('---\n'), page);
      assert.doesNotMatch(text, /^:::|<!-- ?@include|^<<< /m, page);
    }
  });

  it('has all pages in its sidebar, in the order of the groups', () => {
    const html = built('index.html');
    let from = 0;
    for (const { name, pages } of groups.filter((group) => group.pages.length > 0)) {
      const at = html.indexOf(`>${name}<`, from);
      assert.ok(at > 0, `no group ${name}`);
      from = at;
      for (const page of pages) {
        const href = `href="${base}${addresses
          .get(page)!
          .replace(/md$/, 'html')
          .replace(/(^|\/)index\.html$/, '$1')}"`;
        assert.ok(html.includes(href), href);
      }
    }
  });

  it('gives each page a title of its own and a description', () => {
    const titles = htmlPages().map((file) => {
      const html = built(file);
      const [title = ''] = valuesOf(html, /<title>([^<]*)<\/title>/g);
      const [description = ''] = valuesOf(html, /<meta name="description" content="([^"]*)">/g);
      assert.ok(description.length >= 20, `${file}: ${description}`);
      return title;
    });
    assert.deepEqual(
      titles.filter((title, index) => title.trim() === '' || titles.indexOf(title) !== index),
      [],
    );
  });

  it('has no link and no anchor that leads nowhere, and links to files that the repository has', () => {
    const anchors = new Map(
      htmlPages().map((file) => [file, new Set(valuesOf(built(file), / id="([^"]*)"/g))]),
    );
    const broken: string[] = [];
    let count = 0;
    for (const file of htmlPages()) {
      for (const link of new Set(valuesOf(built(file), / href="([^"]*)"/g))) {
        const target = new URL(link, site + file);
        if (target.href.startsWith(`${repository}/blob/`)) {
          const path = target.pathname.split('/blob/main/')[1] ?? '';
          if (!existsSync(join(root, path))) broken.push(`${file}: ${link}`);
        }
        if (target.origin !== new URL(site).origin) continue;
        count++;
        const path = target.pathname.slice(base.length);
        const page = path === '' || path.endsWith('/') ? `${path}index.html` : path;
        const anchor = decodeURIComponent(target.hash.slice(1));
        const there = target.pathname.startsWith(base) && existsSync(join(folder, page));
        if (!there || (anchor !== '' && !anchors.get(page)?.has(anchor))) broken.push(`${file}: ${link}`);
      }
    }
    assert.ok(count > 1000, `${count} links`);
    assert.deepEqual(broken, []);
  });

  it('cannot be built with a link to a file that is not there', () => {
    assert.throws(
      () => resolveLink('docs/api.md', '../lib/nothing.ts'),
      /^Error: docs\/api\.md links to \.\.\/lib\/nothing\.ts, and there is no lib\/nothing\.ts$/,
    );
    assert.equal(resolveLink('docs/api.md', '../lib/hub.ts#L1'), `${repository}/blob/main/lib/hub.ts#L1`);
    assert.equal(resolveLink('docs/recipes/koa.md', '../api.md#cors'), '/api.md#cors');
  });

  it('shows braces and names of files as they are written, and gives headings the anchors of GitHub', async () => {
    const vitepress = createRequire(join(root, 'docs/package.json')).resolve('vitepress');
    const { createMarkdownRenderer } = await import(vitepress);
    const renderer = await createMarkdownRenderer(root, markdown, '/');
    const source = '# A `sluice:gap` & {{ more }}\n\nevents.db `{{ $labels }}` AT&T\n\n    {{ indented }}\n';
    const html: string = renderer.render(source, { path: join(root, 'docs/page.md') });
    assert.match(html, /<h1 id="a-sluicegap---more-"/);
    assert.match(html, /<p>events\.db <code>&#123;&#123; \$labels }}<\/code> AT&amp;T<\/p>/);
    assert.match(html, /<pre v-pre tabindex="0"><code>{{ indented }}/);
  });

  it('describes each exported value of each module of the package', async () => {
    const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    const keys = Object.keys(exports).filter((key) => exports[key].types !== undefined);
    assert.ok(keys.length > 50);
    for (const key of keys) {
      const module = exports[key].types.replace(/^\.\/dist\/(.+)\.d\.ts$/, '../../lib/$1.ts');
      const headings = valuesOf(built(`reference/sluice${key.slice(1)}.html`), /<h3 id="([^"]*)"/g);
      for (const name of Object.keys(await import(module)))
        assert.ok(
          headings.some((id) => id.replace(/-\d+$/, '') === name.toLowerCase()),
          `${key}: no ${name}`,
        );
    }
  });

  it('has an llms.txt with each page, as Markdown with links that exist', async () => {
    const links = valuesOf(built('llms.txt'), /\]\(([^)]+)\)/g);
    assert.equal(links.length, addresses.size);
    for (const link of links) {
      const response = await fetch(link);
      assert.deepEqual([link, response.status], [link, 200]);
      assert.match(await response.text(), /^# /m);
    }
    const whole = built('llms-full.txt');
    for (const page of addresses.keys())
      if (!page.startsWith('docs/reference/'))
        assert.ok(whole.includes(/^# .+$/m.exec(readFileSync(join(root, page), 'utf8'))![0]), page);
    for (const link of valuesOf(
      whole.replaceAll(/^```[\s\S]*?^```$/gm, ''),
      /\]\((http:\/\/127[^)#]+)[^)]*\)/g,
    ))
      assert.equal((await fetch(link)).status, 200, link);
  });
});

describe('the site in a browser', () => {
  let page: Page;
  before(async () => {
    page = await context.newPage();
    page.on('pageerror', (error) => assert.fail(error));
  });

  it('finds a word, in the guides before the reference', async () => {
    await page.goto(site);
    await page.getByRole('button', { name: 'Search' }).first().click();
    await page.locator('#localsearch-input').fill('heartbeat');
    const results = page.locator('#localsearch-list li a');
    await results.first().waitFor();
    const found = await results.evaluateAll((all) => all.map((one) => (one as HTMLAnchorElement).pathname));
    assert.equal(found[0], `${base}api.html`);
    assert.ok(found.includes(`${base}reference/sluice/heartbeat.html`), found.join(' '));
    await results.first().click();
    await page.waitForURL((url) => url.href !== site);
    await page.locator('h1').waitFor();
  });

  it('leads from page to page by the links of the text', async () => {
    await page.goto(site);
    await page.locator(`main a[href="${base}recipes/"]`).first().click();
    await page.waitForURL(`${site}recipes/`);
    await page.locator('main').getByRole('link', { name: 'koa.md' }).click();
    await page.waitForURL(`${site}recipes/koa.html`);
    await page.locator('h1', { hasText: 'Koa' }).waitFor();
  });

  for (const path of [
    '',
    'client.html',
    'performance.html',
    'recipes/express.html',
    'reference/sluice/heartbeat.html',
  ]) {
    for (const width of [390, 1280]) {
      for (const scheme of ['light', 'dark'] as const) {
        it(`can be read by everybody: /${path} at ${width} px, ${scheme}`, async () => {
          await page.setViewportSize({ width, height: 900 });
          await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
          await page.goto(site + path);
          await page.waitForFunction(
            (dark) => document.documentElement.classList.contains('dark') === dark,
            scheme === 'dark',
          );
          await page.evaluate(axeSource);
          const { violations, passes } = await page.evaluate(() =>
            (globalThis as unknown as { axe: typeof axe }).axe.run({ resultTypes: ['violations'] }),
          );
          const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
          assert.deepEqual(
            serious.map(({ id, help, nodes }) => [id, help, nodes.slice(0, 3).map(({ html }) => html)]),
            [],
          );
          assert.ok(passes.some(({ id }) => id === 'color-contrast'));
          assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
        });
      }
    }
  }

  it('has asked for nothing elsewhere', () => {
    assert.ok(requests.length > 100, `${requests.length} requests`);
    assert.deepEqual(
      requests.filter((url) => !url.startsWith(site) && !url.startsWith('data:') && !url.startsWith('blob:')),
      [],
    );
  });
});
