// The page of a bench report in a real browser: does it fit, can it be read, does it begin with what came out?
// `npm ci --prefix test/interop`, `npm ci --prefix bench` and a Chromium, then
// `npx tsx --test test/interop/bench-page.test.ts`.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, describe, it } from 'node:test';
import type axe from 'axe-core';
import type { Browser, Page } from 'playwright-core';
import { measurementsOf } from '../../bench/report/aggregate.ts';
import { toHtml } from '../../bench/report/html.ts';
import { made, madeReport, madeRuns, madeUnder } from '../../bench/report/made.ts';
import type { Report } from '../../bench/report/report.ts';
import { targets, verdictsOf } from '../../bench/targets.ts';
import { launchChromium } from './helpers/chromium.ts';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let browser: Browser;
before(async () => {
  browser = await launchChromium();
});
after(() => browser?.close());

const runs = madeRuns(made());
const whole: Report = {
  ...madeReport(runs),
  verdicts: verdictsOf(targets, measurementsOf(runs)),
  incomplete: 'the run was interrupted by SIGINT, after 3 of 19 rounds',
};
const nodes = ['Node 20.20.2', 'Node 24.21.0'];
const few = madeUnder(
  nodes,
  runs.filter(({ scenario }) => scenario === 'fanout' || scenario === 'scale'),
);
const underEach: Report = {
  ...madeReport(few),
  environment: { ...whole.environment, nodes },
  verdicts: nodes.flatMap((node) => whole.verdicts!.slice(0, 3).map((verdict) => ({ ...verdict, node }))),
};

/** Opens the page with all of its folded parts unfolded. */
async function opened(report: Report): Promise<Page> {
  const page = await browser.newPage({ viewport: { width: 390, height: 900 } });
  await page.setContent(toHtml(report));
  await page.$$eval('details', (all) => {
    for (const one of all) one.open = true;
  });
  return page;
}

/** What reaches beyond the window, or has more in it than fits. */
function tooWide(page: Page): Promise<string[]> {
  return page.$$eval('body, body *', (all) =>
    all
      .filter((one) => one.checkVisibility() && one.closest('thead') === null && !(one instanceof SVGElement))
      .filter(
        (one) => one.getBoundingClientRect().right > innerWidth || one.scrollWidth > one.clientWidth + 1,
      )
      .filter((one) => getComputedStyle(one).display !== 'inline')
      .map((one) => one.outerHTML.slice(0, 200)),
  );
}

for (const [name, report] of Object.entries({ 'one Node': whole, 'two Nodes': underEach })) {
  describe(`the page of a bench report of ${name}`, () => {
    let page: Page;
    before(async () => {
      page = await opened(report);
    });
    after(() => page?.close());

    for (const [width, colorScheme] of [
      [390, 'dark'],
      [1280, 'light'],
    ] as const) {
      it(`fits ${width} px: nothing scrolls or is cut off sideways`, async () => {
        await page.setViewportSize({ width, height: 900 });
        assert.deepEqual(await tooWide(page), []);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
      });

      it(`has no fault that axe finds, at ${width} px in the ${colorScheme} theme`, async () => {
        await page.setViewportSize({ width, height: 900 });
        await page.emulateMedia({ colorScheme });
        await page.evaluate(axeSource);
        const found = await page.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run());
        assert.deepEqual(
          found.violations.map(({ id, help, nodes: where }) => [
            id,
            help,
            where.slice(0, 3).map(({ html }) => html),
          ]),
          [],
        );
        assert.ok(found.passes.some(({ id }) => id === 'color-contrast'));
      });
    }

    it('shows what came out before anything must be scrolled away', async () => {
      await page.setViewportSize({ width: 390, height: 900 });
      const top = (selector: string) =>
        page
          .locator(selector)
          .first()
          .evaluate((one) => one.getBoundingClientRect().top);
      assert.ok((await top('article')) < 900);
      assert.ok((await top('article')) < (await top('table')));
    });

    it('draws each line once, for the width of the window', async () => {
      for (const [width, kind] of [
        [390, '.narrow'],
        [1280, '.wide'],
      ] as const) {
        await page.setViewportSize({ width, height: 900 });
        const count = await page.locator(kind).count();
        assert.ok(count > 0);
        assert.equal(await page.locator('svg:visible').count(), count);
        assert.equal(await page.locator(`${kind} svg:visible`).count(), count);
      }
    });

    it('gives each bar the length of its figure', async () => {
      const bars = page.locator('#outcome article', { hasText: 'fanout connections 1,000, batch 1' }).first();
      const widthOf = (peer: string) =>
        bars
          .locator('li', { hasText: peer })
          .locator('.whole')
          .evaluate((one) => one.getBoundingClientRect().width);
      const [ours, hono] = [await widthOf('sluice'), await widthOf('hono')];
      // 6.80 and 41.8 µs.
      assert.ok(Math.abs(hono / ours - 41.8 / 6.8) < 0.15, `${hono} / ${ours}`);
    });
  });
}
