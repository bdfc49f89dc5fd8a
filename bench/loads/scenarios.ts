// The scenarios that there are: every export of `scenarios/` that is one.

import { readdir } from 'node:fs/promises';
import type { Scenario } from '../scenarios/scenario.ts';

const folder = new URL('../scenarios/', import.meta.url);

/** What is quick to tell something comes first. */
const ORDER = ['micro', 'fanout', 'latency', 'scale', 'topics', 'gzip', 'stalled', 'storm', 'idle'];

export async function findScenarios(): Promise<Scenario[]> {
  const files = (await readdir(folder))
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
    .sort();
  const modules = await Promise.all(files.map((name) => import(new URL(name, folder).href)));
  const found = modules.flatMap((module) => Object.values(module as object).filter(isScenario));
  const rank = ({ name }: Scenario) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  return found.toSorted((a, b) => rank(a) - rank(b));
}

function isScenario(value: unknown): value is Scenario {
  const { name, peers, run } = (value ?? {}) as Partial<Scenario>;
  return typeof name === 'string' && Array.isArray(peers) && typeof run === 'function';
}
