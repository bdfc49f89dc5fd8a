import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { connect } from '../lib/client.ts';
import {
  type Lead,
  type LeaderOptions,
  type Locks,
  type SharedEvent,
  shareStream,
  type TabRole,
} from '../lib/tabs.ts';
import { open, seqOf } from './helpers/misbehaving.ts';
import { openServer } from './helpers/server.ts';

/** A lock manager as browsers have: one holder per name, the others wait in line. The channel is Node's own. */
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

/** Tabs of one origin: each with a record of what it heard and what it became. */
function createTabs(
  t: TestContext,
  lead: (share: (event: SharedEvent) => void, lead: Lead, tab: number) => void | Promise<void>,
) {
  const locks = createLocks();
  const name = `test ${++names}`;
  let tabs = 0;
  return (options: Partial<LeaderOptions> = {}) => {
    const number = ++tabs;
    const heard: string[] = [];
    const roles: TabRole[] = [];
    let wake = (): void => {};
    const stream = shareStream(name, {
      locks,
      lead: (share, position) => lead(share, position, number),
      onEvent: (event) => {
        heard.push(event.data);
        wake();
      },
      onRole: (role) => {
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
  id: `7-${seq}`,
  lastEventId: `7-${seq}`,
});
const turns = (count: number): Promise<void> =>
  new Promise((resolve) => {
    const next = (left: number): void => void (left === 0 ? resolve() : setImmediate(() => next(left - 1)));
    next(count);
  });

describe('shareStream', () => {
  it('lets the first tab lead, and all tabs hear each event once', async (t) => {
    let share = (_: SharedEvent): void => {};
    const leads: number[] = [];
    const openTab = createTabs(t, (given, _, tab) => {
      leads.push(tab);
      share = given;
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

  it('hands over to the next tab, which resumes where it was', async (t) => {
    const resumed: [number, string][] = [];
    let share = (_: SharedEvent): void => {};
    const signals: AbortSignal[] = [];
    const openTab = createTabs(t, (given, { lastEventId, signal }, tab) => {
      resumed.push([tab, lastEventId]);
      signals.push(signal);
      share = given;
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
      [2, '7-4'],
    ]);
    assert.deepEqual(
      signals.map(({ aborted }) => aborted),
      [true, false],
    );
    // What the new leader reads a second time is nothing new to anybody.
    share(event(4));
    share(event(5));
    share({ event: 'message', data: 'no id of its own', lastEventId: '7-5' });
    await third.until(() => third.heard.length === 3);
    assert.deepEqual(third.heard, ['4', '5', 'no id of its own']);
    assert.deepEqual(second.heard, third.heard);
    assert.deepEqual(first.heard, ['4']);
    assert.equal(first.stream.role, 'closed');
  });

  it('tells a tab that came late the place, in case it leads one day', async (t) => {
    const resumed: string[] = [];
    let share = (_: SharedEvent): void => {};
    const openTab = createTabs(t, (given, { lastEventId }) => {
      resumed.push(lastEventId);
      share = given;
    });
    const early = openTab();
    await early.until(() => early.roles.includes('leading'));
    share(event(9));
    const late = openTab();
    while (late.stream.lastEventId === '') await turns(1);
    early.stream.close();
    await late.until(() => late.roles.includes('leading'));
    assert.deepEqual(resumed, ['', '7-9']);
    assert.deepEqual(late.heard, []);
  });

  it('gives each tab one turn when the stream is over, and none a second', async (t) => {
    const tried: number[] = [];
    const errors: unknown[] = [];
    const openTab = createTabs(t, async (_, __, tab) => {
      tried.push(tab);
      if (tab === 2) throw new Error('403');
    });
    const onError = (error: unknown): void => void errors.push((error as Error).message);
    const tabs = [openTab({ onError }), openTab({ onError }), openTab({ onError })];
    for (const tab of tabs) await tab.until(() => tab.stream.role === 'retired');
    await turns(10);
    assert.deepEqual(tried, [1, 2, 3]);
    assert.deepEqual(errors, ['403']);
  });

  it('takes what a retired leader still shares for nothing', async (t) => {
    let share = (_: SharedEvent): void => {};
    const openTab = createTabs(t, async (given) => {
      share = given;
    });
    const tab = openTab();
    await tab.until(() => tab.stream.role === 'retired');
    share(event(1));
    assert.deepEqual(tab.heard, []);
  });

  it('never leads when it was closed while waiting', async (t) => {
    const led: number[] = [];
    const openTab = createTabs(t, (_, __, tab) => void led.push(tab));
    const [first, second, third] = [openTab(), openTab(), openTab()];
    await first.until(() => first.roles.includes('leading'));
    second.stream.close();
    first.stream.close();
    await third.until(() => third.roles.includes('leading'));
    assert.deepEqual(led, [1, 3]);
    assert.deepEqual(second.roles, ['closed']);
  });

  it('does not lead though the lock comes after all, and hears nothing that was under way', async () => {
    const name = `test ${++names}`;
    let grant = (): Promise<void> => Promise.resolve();
    const locks: Locks = {
      request: (_, __, held) => {
        grant = held;
        return new Promise(() => {});
      },
    };
    const lead = (): void => assert.fail('led');
    const onEvent = (): void => assert.fail('heard');
    const tab = shareStream(name, { locks, lead, onEvent });
    const other = new BroadcastChannel(`sluice:${name}`);
    other.postMessage({ kind: 'event', event: event(1) });
    tab.close();
    tab.close();
    await grant();
    await turns(10);
    other.close();
    assert.equal(tab.role, 'closed');
  });

  it('lets each tab lead itself where there are no locks', async (t) => {
    const led: number[] = [];
    const openTab = createTabs(t, (share, _, tab) => {
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

  it('shares what connect reads over one connection, across a change of leader', async (t) => {
    let connections = 0;
    const server = await openServer((req, res) => {
      connections++;
      let seq = seqOf(req.headers['last-event-id']);
      open(res);
      const timer = setInterval(() => res.write(`id: 7-${++seq}\ndata: ${seq}\n\n`), 2);
      res.on('close', () => clearInterval(timer));
    });
    t.after(() => server.close());
    const openTab = createTabs(t, async (share, { lastEventId, signal }) => {
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
});
