// Whether a page can be used: by the eyes in both themes, by a screen reader, on a phone.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type axe from 'axe-core';
import type { Page } from 'playwright-core';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** @throws an assertion error that names what axe found, or that the page is wider than the screen. */
export async function isAccessible(page: Page): Promise<void> {
  for (const [width, colorScheme] of [
    [390, 'dark'],
    [1280, 'dark'],
    [390, 'light'],
    [1280, 'light'],
  ] as const) {
    await page.setViewportSize({ width, height: 800 });
    await page.emulateMedia({ colorScheme });
    await page.evaluate(axeSource);
    const found = await page.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run());
    const faults = found.violations.map(({ id, nodes }) => [id, nodes.slice(0, 3).map(({ html }) => html)]);
    assert.deepEqual(faults, [], `at ${width} px, ${colorScheme}`);
    assert.ok(found.passes.some(({ id }) => id === 'color-contrast'));
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
  }
}
