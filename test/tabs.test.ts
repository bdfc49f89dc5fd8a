import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { connect, type Gap } from '../lib/client.ts';
import { encode } from '../lib/encode.ts';
import { serveEvents } from '../lib/events.ts';
import { Hub } from '../lib/hub.ts';
import { gapEvent } from '../lib/protocol.ts';
import {
  type Lead,
  type Locks,
  type SharedEvent,
  shareAcrossTabs,
  type TabRole,
  type TabsOptions,
} from '../lib/tabs.ts';
import { frame, idOf, open, seqOf } from './helpers/misbehaving.ts';
import { openServer } from './helpers/server.ts';

/** A lock manager as browsers have it: one holder per name, the others wait in order. */
function createLocks(): Locks {
  const tails = new Map<string, Promise<unknown>>();
  return {
    request(name, { signal }, held) {
      const before = tails.get(name) ?? Promise.resolve();
      const turn = before.then(() => (signal.aborted ? undefined : held()));
      tails.set(
        name,
        turn.catch(() => {}),
      );
      const aborted = new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason)),
      );
      aborted.catch(() => {});
      return Promise.race([turn, aborted]);
    },
  };
}

let names = 0;

/** Tabs that share the topic `quiet` of a hub, with its control events. */
async function createTabsOfServer(t: TestContext) {
  const hub = new Hub();
  const events = serveEvents(hub);
  const server = await openServer((req, res) => void events(req, res));
  t.after(() => server.close());
  const openTab = createTabs(t, async ({ share, lastEventId, signal }) => {
    const stream = connect(`${server.url}?topic=quiet`, { lastEventId, signal, controlEvents: true });
    for await (const event of stream) share(event);
  });
  return { hub, openTab };
}

/** Opens tabs of one origin, each with a record of its events and roles. */
function createTabs(t: TestContext, lead: (lead: Lead, tab: number) => void | Promise<void>) {
  const locks = createLocks();
  const name = `test ${++names}`;
  let tabs = 0;
  return (options: Partial<TabsOptions> = {}) => {
    const number = ++tabs;
    const heard: string[] = [];
    const roles: TabRole[] = [];
    let wake = (): void => {};
    const stream = shareAcrossTabs(name, {
      locks,
      lead: (given) => lead(given, number),
      onEvent: (event) => {
        heard.push(event.data);
        wake();
      },
      onRole: ({ role }) => {
        roles.push(role);
        wake();
      },
      ...options,
    });
    t.after(() => stream.close());
    const until = async (condition: () => boolean): Promise<void> => {
      while (!condition()) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    };
    return { stream, heard, roles, until };
  };
}

const event = (seq: number): SharedEvent => ({
  event: 'message',
  data: `${seq}`,
  id: idOf(seq),
  lastEventId: idOf(seq),
});
const turns = (count: number): Promise<void> =>
  new Promise((resolve) => {
    const next = (left: number): void => void (left === 0 ? resolve() : setImmediate(() => next(left - 1)));
    next(count);
  });

describe('shareAcrossTabs', () => {
  it('lets the first tab lead, and gives each event to all tabs once', async (t) => {
    let share = (_: SharedEvent): void => {};
    const leads: number[] = [];
    const openTab = createTabs(t, (lead, tab) => {
      leads.push(tab);
      share = lead.share;
    });
    const tabs = [openTab(), openTab(), openTab()];
    await tabs[0]!.until(() => tabs[0]!.roles.includes('leading'));
    share(event(1));
    share(event(2));
    for (const tab of tabs) await tab.until(() => tab.heard.length === 2);
    assert.deepEqual(
      tabs.map(({ heard }) => heard.join()),
      ['1,2', '1,2', '1,2'],
    );
    assert.deepEqual(
      tabs.map(({ stream }) => stream.role),
      ['leading', 'following', 'following'],
    );
    assert.deepEqual(leads, [1]);
  });

  it('lets the next tab lead when the first one closes, from the same position', async (t) => {
    const resumed: [number, string][] = [];
    let share = (_: SharedEvent): void => {};
    const signals: AbortSignal[] = [];
    const openTab = createTabs(t, (lead, tab) => {
      resumed.push([tab, lead.lastEventId]);
      signals.push(lead.signal);
      share = lead.share;
    });
    const [first, second, third] = [openTab(), openTab(), openTab()];
    await first.until(() => first.roles.includes('leading'));
    share(event(4));
    await second.until(() => second.heard.length === 1);
    await third.until(() => third.heard.length === 1);
    first.stream.close();
    await second.until(() => second.roles.includes('leading'));
    assert.deepEqual(resumed, [
      [1, ''],
      [2, idOf(4)],
    ]);
    assert.deepEqual(
      signals.map(({ aborted }) => aborted),
      [true, false],
    );
    // The new leader reads an event again: no tab may get it twice.
    share(event(4));
    share(event(5));
    share({ event: 'message', data: 'no id of its own', lastEventId: idOf(5) });
    await third.until(() => third.heard.length === 3);
    assert.deepEqual(third.heard, ['4', '5', 'no id of its own']);
    assert.deepEqual(second.heard, third.heard);
    assert.deepEqual(first.heard, ['4']);
    assert.equal(first.stream.role, 'closed');
  });

  it('gives a tab that joins late the position, from which it leads later', async (t) => {
    const resumed: string[] = [];
    let share = (_: SharedEvent): void => {};
    const openTab = createTabs(t, (lead) => {
      resumed.push(lead.lastEventId);
      share = lead.share;
    });
    const early = openTab();
    await early.until(() => early.roles.includes('leading'));
    share(event(9));
    const late = openTab();
    while (late.stream.lastEventId === '') await turns(1);
    early.stream.close();
    await late.until(() => late.roles.includes('leading'));
    assert.deepEqual(resumed, ['', idOf(9)]);
    assert.deepEqual(late.heard, []);
  });

  it('lets each tab lead once when the stream is over, and reports its failures', async (t) => {
    const tried: number[] = [];
    const errors: unknown[] = [];
    const openTab = createTabs(t, async (_, tab) => {
      tried.push(tab);
      if (tab === 2) throw new Error('403');
    });
    const onError: TabsOptions['onError'] = (error, { role }) => errors.push((error as Error).message, role);
    const tabs = [openTab({ onError }), openTab({ onError }), openTab({ onError })];
    for (const tab of tabs) await tab.until(() => tab.stream.role === 'retired');
    await turns(10);
    assert.deepEqual(tried, [1, 2, 3]);
    assert.deepEqual(errors, ['403', 'leading']);
  });

  it('ignores what a retired tab shares', async (t) => {
    let share = (_: SharedEvent): void => {};
    const openTab = createTabs(t, async (lead) => {
      share = lead.share;
    });
    const tab = openTab();
    await tab.until(() => tab.stream.role === 'retired');
    share(event(1));
    assert.deepEqual(tab.heard, []);
  });

  it('does not let a tab lead that closed while it waited', async (t) => {
    const led: number[] = [];
    const openTab = createTabs(t, (_, tab) => void led.push(tab));
    const [first, second, third] = [openTab(), openTab(), openTab()];
    await first.until(() => first.roles.includes('leading'));
    second.stream.close();
    first.stream.close();
    await third.until(() => third.roles.includes('leading'));
    assert.deepEqual(led, [1, 3]);
    assert.deepEqual(second.roles, ['closed']);
  });

  it('ignores the lock and the events that reach a tab after it closed', async () => {
    const name = `test ${++names}`;
    let grant = (): Promise<void> => Promise.resolve();
    const locks: Locks = {
      request: (_, __, held) => {
        grant = held;
        return new Promise(() => {});
      },
    };
    const lead = (): void => assert.fail('led');
    const onEvent = (): void => assert.fail('an event');
    const tab = shareAcrossTabs(name, { locks, lead, onEvent });
    const other = new BroadcastChannel(`sluice.tabs:${name}`);
    other.postMessage({ kind: 'event', event: event(1) });
    tab.close();
    tab.close();
    await grant();
    await turns(10);
    other.close();
    assert.equal(tab.role, 'closed');
  });

  it('reports a lock that cannot be requested', async (t) => {
    const locks: Locks = { request: () => Promise.reject(new Error('insecure')) };
    const reported = await new Promise((resolve) => {
      const tab = shareAcrossTabs(`test ${++names}`, {
        locks,
        lead: () => assert.fail('led'),
        onEvent: () => assert.fail('an event'),
        onError: (error, context) => resolve([(error as Error).message, context]),
      });
      t.after(() => tab.close());
    });
    assert.deepEqual(reported, ['insecure', { role: 'following' }]);
  });

  it('lets every tab lead where there are no locks', async (t) => {
    const led: number[] = [];
    const openTab = createTabs(t, ({ share }, tab) => {
      led.push(tab);
      share(event(tab));
    });
    const had = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
    Object.defineProperty(globalThis, 'navigator', { value: undefined, configurable: true });
    t.after(() => {
      if (had === undefined) Reflect.deleteProperty(globalThis, 'navigator');
      else Object.defineProperty(globalThis, 'navigator', had);
    });
    const tabs = [openTab({ locks: undefined }), openTab({ locks: undefined })];
    assert.deepEqual(led, [1, 2]);
    await turns(10);
    assert.deepEqual(
      tabs.map(({ heard }) => heard),
      [['1'], ['2']],
    );
    assert.deepEqual(
      tabs.map(({ stream }) => stream.role),
      ['leading', 'leading'],
    );
  });

  it('shares what connect reads over one connection, also when the leading tab changes', async (t) => {
    let connections = 0;
    const server = await openServer((req, res) => {
      connections++;
      let seq = seqOf(req.headers['last-event-id']);
      open(res);
      const timer = setInterval(() => res.write(frame(++seq)), 2);
      res.on('close', () => clearInterval(timer));
    });
    t.after(() => server.close());
    const openTab = createTabs(t, async ({ share, lastEventId, signal }) => {
      for await (const event of connect(server.url, { lastEventId, signal })) share(event);
    });
    const [first, second] = [openTab(), openTab()];
    await second.until(() => second.heard.length >= 5);
    first.stream.close();
    await second.until(() => second.heard.length >= 20);
    assert.deepEqual(
      second.heard.slice(0, 20),
      Array.from({ length: 20 }, (_, i) => `${i + 1}`),
    );
    assert.equal(connections, 2);
  });

  it('loses no event where the tab that leads closes before the first one: the next resumes from its position', async (t) => {
    const { hub, openTab } = await createTabsOfServer(t);
    const [first, second] = [openTab(), openTab()];
    while (second.stream.lastEventId === '') await turns(1);
    first.stream.close();
    hub.publish('quiet', { data: 'between' });
    await second.until(() => second.heard.length > 0);
    assert.deepEqual([first.heard, second.heard], [[], ['between']]);
  });

  it('tells every tab that the topic has ended, also right after its last event', async (t) => {
    const { hub, openTab } = await createTabsOfServer(t);
    const tabs = [openTab(), openTab()];
    for (const { stream } of tabs) while (stream.lastEventId === '') await turns(1);
    hub.publish('quiet', { data: 'last' });
    hub.end('quiet');
    for (const { until, heard } of tabs) {
      await until(() => heard.length > 1);
      assert.equal(heard[0], 'last');
      assert.deepEqual(JSON.parse(heard[1]!).topics, ['quiet']);
    }
  });

  it('keeps the earlier position where an id cannot be sent, so that the next tab can resume', async (t) => {
    const resumed: string[] = [];
    let share = (_: SharedEvent): void => {};
    const openTab = createTabs(t, (lead) => {
      resumed.push(lead.lastEventId);
      share = lead.share;
    });
    const [first, second] = [openTab(), openTab()];
    await first.until(() => first.roles.includes('leading'));
    share(event(1));
    share({ ...event(2), id: 'a\u0001', lastEventId: 'a\u0001' });
    share({ ...event(3), id: '7'.repeat(300_000), lastEventId: '7'.repeat(300_000) });
    await second.until(() => second.heard.length === 3);
    assert.equal(second.stream.lastEventId, idOf(1));
    first.stream.close();
    await second.until(() => second.roles.includes('leading'));
    assert.deepEqual(resumed, ['', idOf(1)]);
  });

  it('ignores what other scripts of the origin post to its channel', async (t) => {
    const openTab = createTabs(t, () => {});
    const [first, second] = [openTab(), openTab()];
    await first.until(() => first.roles.includes('leading'));
    const channel = new BroadcastChannel(`sluice.tabs:test ${names}`);
    t.after(() => channel.close());
    for (const message of [
      undefined,
      null,
      7,
      'event',
      {},
      { kind: 'event' },
      { kind: 'event', event: null },
      { kind: 'event', event: { event: 'message', data: 'x', lastEventId: 7 } },
      { kind: 'position' },
      { kind: 'position', lastEventId: {} },
      { kind: 'position', lastEventId: '7'.repeat(300_000) },
      { kind: 'event', event: event(1) },
    ])
      channel.postMessage(message);
    await second.until(() => second.heard.length === 1);
    assert.deepEqual([second.heard, second.stream.lastEventId], [['1'], idOf(1)]);
  });

  it('gives every tab the gaps that connect reports, with the server’s end of the loss', async (t) => {
    const lost: Gap = { reason: 'evicted', from: idOf(1), to: idOf(8), topics: ['a'] };
    const server = await openServer((_, res) => open(res, encode(gapEvent(idOf(5), lost)) + frame(6)));
    t.after(() => server.close());
    const openTab = createTabs(t, async ({ share, lastEventId, signal }) => {
      for await (const each of connect(server.url, { lastEventId, signal })) share(each);
    });
    const tabs = [openTab(), openTab()];
    for (const { until, heard } of tabs) await until(() => heard.length === 2);
    for (const { heard } of tabs) assert.deepEqual([JSON.parse(heard[0]!), heard[1]], [lost, '6']);
  });
});
