// The clients of other protocols, each seen through the same few functions.

import { readFileSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Client as McpClient } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import {
  ResourceListChangedNotificationSchema,
  ResourceUpdatedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { createTRPCUntypedClient, httpSubscriptionLink } from '@trpc/client';
import { EventSource } from 'eventsource';
import { createClient } from 'graphql-sse';
import type { Browser, Page } from 'playwright-core';
import { examples, type Route } from './programs.ts';

export interface Client {
  /** What its application has received so far, without what it got for a gap. */
  received(): Promise<readonly string[]>;
  /** How often its application was told that events are lost. */
  gaps(): Promise<number>;
  /** Whether it knows that nothing more will come. */
  isOver(): Promise<boolean>;
  /** What it complains about. */
  readonly complaints: readonly string[];
}

export interface Protocol {
  /** The name of the program in docs/protocols.md. */
  readonly program: string;
  /** The requests for its streams. */
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** The topic of its events. */
  readonly topic: string;
  /** Whether the client sends the id of its place after a cut. */
  readonly resumes: boolean;
  /** Whether it comes back after the end, and stays away after the answer 204. */
  readonly endsAt204?: boolean;
  /** What its page needs from a server. */
  readonly routes?: Readonly<Record<string, Route>>;
  open(t: TestContext, url: string, browser: Browser): Promise<Client>;
}

const file = (path: string): string => readFileSync(fileURLToPath(import.meta.resolve(path)), 'utf8');

const answer =
  (type: string, body: string): Route =>
  (_, res) =>
    void res.writeHead(200, { 'content-type': `${type}; charset=utf-8` }).end(body);

/** A page of the docs and its scripts; `/prices` is what it asks for after a gap. */
function pageOf(example: string, scripts: Readonly<Record<string, string>>): Record<string, Route> {
  const routes: Record<string, Route> = {
    '/': answer('text/html', `<!doctype html><link rel="icon" href="data:,">${examples.get(example)!.code}`),
    '/prices': answer('text/html', ''),
  };
  for (const [path, script] of Object.entries(scripts)) routes[path] = answer('text/javascript', script);
  return routes;
}

/** Opens the page of a protocol. `over` says in the page whether its stream is over. */
async function openPage(
  t: TestContext,
  url: string,
  browser: Browser,
  { gaps, over }: { gaps: (page: Page) => Promise<number>; over: () => boolean },
): Promise<Client> {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  await page.addInitScript({ content: WATCH });
  await page.goto(url);
  return {
    complaints,
    received: () => page.locator('#prices li').allTextContents(),
    gaps: () => gaps(page),
    isOver: () => page.evaluate(over),
  };
}

/** Marks a page whose client says that its stream is over. */
const WATCH = `
  for (const name of ['htmx:sseClose', 'htmx:sse:close', 'datastar-sse'])
    addEventListener(name, ({ detail: { type, reason } }) => {
      if (['message', 'finished'].includes(reason ?? type)) document.documentElement.title = 'over';
    }, true);`;

const isMarked = (): boolean => document.documentElement.title === 'over';

/** Counts the requests of a page for a path. */
function countRequests(routes: Record<string, Route>, path: string): () => number {
  const route = routes[path]!;
  let count = 0;
  routes[path] = (req, res) => {
    count++;
    route(req, res);
  };
  return () => count;
}

function graphqlSse(url: string): Promise<Client> {
  const received: string[] = [];
  const complaints: string[] = [];
  let [gaps, isOver] = [0, false];
  const client = createClient({ url, retry: async () => {} });
  client.subscribe<{ price: string }>(
    { query: 'subscription { price }' },
    {
      next: ({ data, errors }) => {
        if (errors) gaps++;
        else received.push(data!.price);
      },
      error: (error) => complaints.push(String(error)),
      complete: () => {
        isOver = true;
      },
    },
  );
  return Promise.resolve({
    complaints,
    received: async () => received,
    gaps: async () => gaps,
    isOver: async () => isOver,
  });
}

function trpc(t: TestContext, url: string): Promise<Client> {
  const received: string[] = [];
  const complaints: string[] = [];
  let [gaps, isOver] = [0, false];
  const client = createTRPCUntypedClient({
    links: [httpSubscriptionLink({ url: `${url}/trpc`, EventSource })],
  });
  const subscription = client.subscription('prices', undefined, {
    // Data without an id arrives by itself.
    onData: (value) => received.push(typeof value === 'string' ? value : (value as { data: string }).data),
    onError: (error) => {
      if (error.message === 'Events are lost.') gaps++;
      else complaints.push(String(error));
    },
    onComplete: () => {
      isOver = true;
    },
  });
  t.after(() => subscription.unsubscribe());
  return Promise.resolve({
    complaints,
    received: async () => received,
    gaps: async () => gaps,
    isOver: async () => isOver,
  });
}

async function mcp(t: TestContext, url: string): Promise<Client> {
  const received: string[] = [];
  const complaints: string[] = [];
  let gaps = 0;
  let lastStatus = 0;
  const client = new McpClient({ name: 'reader', version: '1.0.0' });
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => {
    received.push(params.uri);
  });
  client.setNotificationHandler(ResourceListChangedNotificationSchema, () => {
    gaps++;
  });
  client.onerror = (error) => complaints.push(String(error));
  const transport = new StreamableHTTPClientTransport(new URL(url), {
    fetch: async (...args) => {
      const response = await fetch(...args);
      if (args[1]?.method === 'GET') lastStatus = response.status;
      return response;
    },
  });
  await client.connect(transport);
  t.after(() => client.close());
  return {
    complaints,
    received: async () => received,
    gaps: async () => gaps,
    isOver: async () => lastStatus === 204,
  };
}

const htmx2 = pageOf('htmx-2-page', {
  '/htmx.js': file('htmx2/dist/htmx.js'),
  '/sse.js': file('htmx-ext-sse/sse.js'),
});
const htmx2Gaps = countRequests(htmx2, '/prices');

const htmx4 = pageOf('htmx-4-page', {
  '/htmx.js': file('htmx.org/dist/htmx.js'),
  '/hx-sse.js': file('htmx.org/dist/ext/hx-sse.js'),
});
const htmx4Gaps = countRequests(htmx4, '/prices');

const datastar = pageOf('datastar-page', {
  '/datastar.js': readFileSync(
    new URL('node_modules/@starfederation/datastar/dist/datastar.js', import.meta.url),
    'utf8',
  ),
});

const turbo = pageOf('turbo-page', { '/turbo.js': file('@hotwired/turbo/dist/turbo.es2017-umd.js') });
const turboPages = countRequests(turbo, '/');

/** Counts from now on what is counted over all tests. */
const fromNow = (count: () => number): (() => Promise<number>) => {
  const before = count();
  return async () => count() - before;
};

export const protocols: Readonly<Record<string, Protocol>> = {
  'graphql-sse': {
    program: 'graphql-sse',
    method: 'POST',
    path: '/',
    topic: 'prices',
    resumes: false,
    open: (_, url) => graphqlSse(url),
  },
  tRPC: { program: 'trpc', method: 'GET', path: '/trpc/prices', topic: 'prices', resumes: true, open: trpc },
  MCP: {
    program: 'mcp',
    endsAt204: true,
    method: 'GET',
    path: '/',
    topic: 'resources',
    resumes: true,
    open: mcp,
  },
  'htmx 2': {
    program: 'htmx-2',
    method: 'GET',
    path: '/events',
    topic: 'prices',
    resumes: true,
    routes: htmx2,
    open: (t, url, browser) => openPage(t, url, browser, { gaps: fromNow(htmx2Gaps), over: isMarked }),
  },
  'htmx 4': {
    program: 'htmx-4',
    method: 'GET',
    path: '/events',
    topic: 'prices',
    resumes: true,
    routes: htmx4,
    open: (t, url, browser) => openPage(t, url, browser, { gaps: fromNow(htmx4Gaps), over: isMarked }),
  },
  Datastar: {
    program: 'datastar',
    method: 'GET',
    path: '/events',
    topic: 'prices',
    resumes: true,
    routes: datastar,
    open: (t, url, browser) =>
      openPage(t, url, browser, {
        gaps: async (page) => ((await page.locator('main p').isVisible()) ? 1 : 0),
        over: isMarked,
      }),
  },
  Turbo: {
    program: 'turbo',
    endsAt204: true,
    method: 'GET',
    path: '/events',
    topic: 'prices',
    resumes: true,
    routes: turbo,
    open: async (t, url, browser) => {
      const pages = fromNow(turboPages);
      return openPage(t, url, browser, {
        gaps: async () => (await pages()) - 1,
        over: () =>
          (
            document.querySelector('turbo-stream-source') as unknown as {
              streamSource: { readyState: number };
            }
          ).streamSource.readyState === 2,
      });
    },
  },
};
