// For each clause of the contract of logs a log that breaks it: an honest one with exactly one fault.

import {
  type AppendOptions,
  type Log,
  type LogEntry,
  type LogIntake,
  type LogPage,
  type OwnLog,
  type SharedLog,
  type TopicRecord,
  topicMoved,
} from '../../lib/log.ts';
import type { LogFaults, LogHarness } from '../../lib/log-contract.ts';
import { MemoryLog, type MemoryStore } from '../helpers/memory-log.ts';
import { ownLog, type Shared, sharedLog } from './log-harnesses.ts';

export interface WrongLog {
  /** What is wrong with it. */
  readonly fault: string;
  readonly harness: LogHarness;
}

// ── honest logs with some members replaced ────────────────────────────────────────────────────────────────

type OwnChange = (log: OwnLog, store: MemoryStore) => Partial<OwnLog>;

function own(fault: string, change: OwnChange, faults: Partial<LogFaults<MemoryStore>> = {}): WrongLog {
  const open = (store: MemoryStore): Log => {
    const log = new MemoryLog(store);
    return { ...ownMembers(log), ...change(log, store) };
  };
  return { fault, harness: { ...ownLog, open, faults: { ...ownLog.faults, ...faults } } };
}

/** The members of an honest log, to replace some of them. */
export function ownMembers(log: OwnLog): OwnLog {
  return {
    epochs: log.epochs,
    head: log.head,
    append: (entries, records) => log.append(entries, records),
    recall: (key) => log.recall?.(key),
    read: (...args) => log.read(...args),
    find: (topics) => log.find(topics),
    list: (options) => log.list(options),
    beforeNewest: (topics, count) => log.beforeNewest(topics, count),
    change: (topic, change) => log.change(topic, change),
    close: () => log.close?.(),
  };
}

/** `read` returns a page that was changed. */
function reading(
  fault: string,
  change: (page: LogPage, asked: Asked, store: MemoryStore) => Partial<LogPage>,
  ask: (asked: Asked) => Asked = (asked) => asked,
): WrongLog {
  return own(fault, (log, store) => ({
    read: (topics, after, maxBytes, { newestOnly }) => {
      const asked = ask({ topics, after, maxBytes, newestOnly });
      const page = log.read(asked.topics, asked.after, asked.maxBytes, asked) as LogPage;
      return { ...page, ...change(page, asked, store) };
    },
  }));
}

interface Asked {
  readonly topics: readonly string[];
  readonly after: number;
  readonly maxBytes: number;
  readonly newestOnly: boolean;
}

type SharedChange = (log: SharedLog, store: Shared, node: number) => Partial<SharedLog>;

function shared(fault: string, change: SharedChange): WrongLog {
  const open = (store: Shared): Log => {
    const log = store.openNext();
    const node = Number(store.nodeOf(log).slice('node '.length));
    const wrong = { ...sharedMembers(log), ...change(log, store, node) };
    store.standIn(log, wrong);
    return wrong;
  };
  return { fault, harness: { ...sharedLog, open } };
}

function sharedMembers(log: SharedLog): SharedLog {
  return {
    order: 'shared',
    follow: (intake) => log.follow(intake),
    append: (...args) => log.append(...args),
    read: (...args) => log.read(...args),
    find: (topics) => log.find(topics),
    list: (options) => log.list(options),
    beforeNewest: (topics, count) => log.beforeNewest(topics, count),
    change: (topic, change) => log.change(topic, change),
    close: async () => log.close?.(),
  };
}

/** A shared log that tells its intake something else. */
function telling(fault: string, change: (intake: LogIntake, node: number) => Partial<LogIntake>): WrongLog {
  return shared(fault, (log, _store, node) => ({
    follow: (intake) => log.follow({ ...intakeMembers(intake), ...change(intake, node) }),
  }));
}

function intakeMembers(intake: LogIntake): LogIntake {
  return {
    accept: (entries) => intake.accept(entries),
    skip: (seq) => intake.skip(seq),
    renew: (epoch, oldEnd) => intake.renew(epoch, oldEnd),
    away: (error) => intake.away(error),
    back: () => intake.back(),
  };
}

/** A shared log that sends other requests. */
function sending(fault: string, change: (options: AppendOptions, node: number) => AppendOptions): WrongLog {
  return shared(fault, (log, _store, node) => ({
    append: (topic, events, options = {}) => log.append(topic, events, change(options, node)),
  }));
}

// ── faults that break more than one clause ────────────────────────────────────────────────────────────────

/** Keeps the epoch although entries are lost. */
function loseSilently(store: MemoryStore, count: number): void {
  const { epochs } = store;
  store.loseTail(count);
  store.epochs = epochs;
}

const losesInACrash = (): WrongLog =>
  own('loses its newest entry in a crash, and does not notice', () => ({}), {
    crash: (store) => loseSilently(store, 1),
  });

const losesItsTail = (): WrongLog =>
  own('does not notice that its newest entries are gone', () => ({}), { loseTail: loseSilently });

const overstates = (fault: string): WrongLog =>
  reading(fault, (page, _asked, store) => ({ until: Math.max(page.until, store.head) }));

const answersBeforeItIsTold = (): WrongLog =>
  telling('tells its node of entries only after `append` has answered', (intake) => {
    const later = (tell: () => void): void => void setTimeout(tell, 5);
    return {
      accept: (entries) => later(() => intake.accept(entries)),
      skip: (seq) => later(() => intake.skip(seq)),
      renew: (epoch, oldEnd) => later(() => intake.renew(epoch, oldEnd)),
    };
  });

const sendsWhatItRefused = (): WrongLog =>
  shared('sends what it has rejected, once it is back', (log) => {
    const refused: (() => Promise<unknown>)[] = [];
    return {
      append: (topic, events, options) => {
        const appended = log.append(topic, events, options);
        appended.catch(() => refused.push(() => log.append(topic, events, options)));
        return appended;
      },
      follow: (intake) =>
        log.follow({
          ...intakeMembers(intake),
          back: () => {
            for (const send of refused.splice(0)) send().catch(() => {});
            intake.back();
          },
        }),
    };
  });

const tellsOneNodeOtherwise = (): WrongLog =>
  telling('tells one node another event', (intake, node) => ({
    accept: (entries) =>
      intake.accept(
        entries.map((entry) =>
          node === 2 && entry.seq === 3 ? { ...entry, frame: Buffer.from('data: another\n\n') } : entry,
        ),
      ),
  }));

const keysPerNode = (): WrongLog =>
  sending('knows the keys of its own node only', ({ idempotency }, node) =>
    idempotency === undefined ? {} : { idempotency: { ...idempotency, key: `${node} ${idempotency.key}` } },
  );

const renewsWhenBack = (): WrongLog =>
  shared('takes the order for another one whenever it was away', (log) => {
    let epoch = 0;
    return {
      follow: (intake) =>
        log.follow({
          ...intakeMembers(intake),
          renew: (told, oldEnd) => {
            epoch = told;
            intake.renew(told, oldEnd);
          },
          back: () => {
            intake.renew(++epoch, 0);
            intake.back();
          },
        }),
    };
  });

const forgetsEnds = (): WrongLog =>
  own('forgets which topics have ended', (log) => ({
    find: (topics) => log.find(topics).map((record) => ({ ...record, ended: false })),
  }));

const forgetsDeleted = (): WrongLog =>
  own('removes the record of a topic that is deleted', (log, store) => ({
    change: (topic, change) => {
      const isChanged = log.change(topic, change);
      if (change === 'delete') store.topics.delete(topic);
      return isChanged;
    },
  }));

const keepsRecordsInMemory = (): WrongLog =>
  own('keeps records in memory only', (_log, store) => {
    store.records.clear();
    return {};
  });

const newEpochEachTime = (): WrongLog =>
  own('begins a new epoch whenever it is opened', (_log, store) => {
    store.loseTail(0);
    return { epochs: store.epochs, head: store.head };
  });

const asUnknown = (topic: string): TopicRecord => ({
  topic,
  last: 0,
  dropped: 0,
  ended: false,
  events: 0,
  bytes: 0,
});

/** The topics that an entry of a page belongs to. */
const topicsOf = (entries: readonly LogEntry[]): readonly string[] => entries.map(({ topic }) => topic);

/** Every frame that is read is copied into the same memory. */
function sharingMemory(): (page: LogPage) => Partial<LogPage> {
  const memory = Buffer.alloc(64 * 1024);
  return ({ entries }) => {
    let at = 0;
    return {
      entries: entries.map((entry) => {
        const frame = memory.subarray(at, at + entry.frame.length);
        frame.set(entry.frame);
        at += frame.length;
        return { ...entry, frame };
      }),
    };
  };
}

/** By the title of the clause that each of them breaks. */
export const wrongLogs: Readonly<Record<string, WrongLog>> = {
  // reading
  '`read` returns the events of the topics that it is asked for, merged by seq, and no others': reading(
    'returns one topic after the other',
    ({ entries }) => ({ entries: [...entries].sort((a, b) => (a.topic < b.topic ? -1 : 1)) }),
  ),
  '`read` returns an entry as it was appended: seq, topic, time, frame and key': reading(
    'loses keys',
    ({ entries }) => ({ entries: entries.map((entry) => ({ ...entry, key: undefined })) }),
  ),
  'a key is kept whatever its characters, and so is the name of a topic, with its case': reading(
    'ends a key at its first NUL, as C does',
    ({ entries }) => ({ entries: entries.map((entry) => ({ ...entry, key: entry.key?.split('\0')[0] })) }),
  ),
  '`read` returns what comes after the seq, and not the entry of that seq': reading(
    'returns the entry of the cursor too',
    () => ({}),
    (asked) => ({ ...asked, after: asked.after - 1 }),
  ),
  '`read` returns about as many bytes as it is asked for': reading(
    'returns everything at once',
    () => ({}),
    (asked) => ({ ...asked, maxBytes: Infinity }),
  ),
  '`read` returns one entry where the first is larger than a page': reading(
    'returns nothing where the first entry does not fit',
    ({ entries, until }, { maxBytes, after }) =>
      entries.length > 0 && entries[0]!.frame.length > maxBytes
        ? { entries: [], until: after }
        : { entries, until },
  ),
  'pages that are read one after another have every event once, in order': reading(
    'leaves out the first entry of each page but the first',
    ({ entries }, { after }) => ({ entries: after > 0 ? entries.slice(1) : entries }),
  ),
  'a page states in `until` how far it reaches, never less than its newest entry': overstates(
    'says that a page which was cut short reaches the head',
  ),
  'a page without entries reaches the head': reading(
    'does not move where there is nothing',
    ({ entries, until }, { after }) => ({ until: entries.length === 0 ? after : until }),
  ),
  'a page keeps its frames while others are read and appended': reading(
    'reads every page into the same memory',
    sharingMemory(),
  ),
  'without `newestOnly`, events that newer ones replace are returned as well': reading(
    'always leaves out what was replaced',
    () => ({}),
    (asked) => ({ ...asked, newestOnly: true }),
  ),
  'with `newestOnly`, what is left out was replaced by a newer event of the same topic and key': reading(
    'takes the same key of two topics for one',
    ({ entries }, { newestOnly }) => ({
      entries: entries.filter(
        ({ key }, i) => !newestOnly || key === undefined || entries.findLastIndex((e) => e.key === key) === i,
      ),
    }),
  ),
  'pages with `newestOnly` reach the head, however much is left out of them': own(
    'moves only as far as the newest entry that it has not left out',
    (log) => ({
      read: (topics, after, maxBytes, { newestOnly }) => {
        const page = log.read(topics, after, maxBytes, { newestOnly: false }) as LogPage;
        if (!newestOnly) return page;
        const all = log.read(topics, after, Infinity, { newestOnly: true }) as LogPage;
        const entries = page.entries.filter((entry) => all.entries.includes(entry));
        return { ...page, entries, until: entries.at(-1)?.seq ?? after };
      },
    }),
  ),

  // what was lost
  'where nothing is lost, a page states no loss': reading(
    'states a loss to everybody who is not at the head',
    (_page, { topics, after }, { head }) => ({
      dropped: after < head ? [{ topic: topics[0]!, seq: after + 1 }] : [],
    }),
  ),
  'what retention has dropped of a topic is stated with the newest seq that was dropped': reading(
    'never states a loss',
    () => ({ dropped: [] }),
  ),
  'a page that is cut short states what was dropped before it as well': reading(
    'states losses on the last page only',
    ({ dropped, until }, _asked, { head }) => ({ dropped: until < head ? [] : dropped }),
  ),
  'a cursor that lies where the loss ends, or after it, has lost nothing': own(
    'states a loss to those who were not concerned',
    (log) => ({
      read: (topics, ...rest) => ({
        ...(log.read(topics, ...rest) as LogPage),
        dropped: log
          .find(topics)
          .flatMap(({ topic, dropped }) => (dropped > 0 ? [{ topic, seq: dropped }] : [])),
      }),
    }),
  ),
  'a topic of which no event is left still states what it lost': reading(
    'knows losses only of topics that have events',
    ({ entries, dropped }) => ({
      dropped: dropped.filter(({ topic }) => topicsOf(entries).includes(topic)),
    }),
  ),
  'a deleted topic states its last seq as lost': forgetsDeleted(),
  'a topic that was forgotten with its record states as lost at least what it had': reading(
    'knows nothing of topics that were forgotten',
    ({ dropped }, _asked, { topics }) => ({ dropped: dropped.filter(({ topic }) => topics.has(topic)) }),
  ),
  'a log that was shortened from outside states up to where': reading(
    'does not notice that it was shortened',
    () => ({ truncated: undefined }),
  ),

  // topics
  '`find` returns the record of each topic, and none for one that it does not know': own(
    'makes a record of every name that it is asked for',
    (log) => ({
      find: (topics) => topics.map((topic) => log.find([topic])[0] ?? asUnknown(topic)),
    }),
  ),
  '`list` returns topics by name: those after a name, at most as many as it is asked for': own(
    'lists topics in the order in which they were published to',
    (log, store) => ({
      list: ({ after, limit = Infinity }) => {
        const names = [...store.topics.keys()];
        const from = after === undefined ? 0 : names.indexOf(after) + 1;
        return log.find(names.slice(from, from + limit));
      },
    }),
  ),
  '`list` leaves out a deleted topic until something is published to it': own(
    'lists deleted topics',
    (log, store) => ({ list: () => log.find([...store.topics.keys()].sort()) }),
  ),
  '`beforeNewest` returns the seq after which the topics together have that many events': own(
    'counts the events of each topic by itself',
    (log) => ({
      beforeNewest: (topics, count) => Math.min(...topics.map((topic) => log.beforeNewest([topic], count))),
    }),
  ),
  '`beforeNewest` of more events than there are lies before all, and after what was lost': own(
    'begins before what was lost',
    (log, store) => ({
      beforeNewest: (topics, count) => (count > store.entries.length ? 0 : log.beforeNewest(topics, count)),
    }),
  ),
  '`end` ends a topic once, keeps its events, and answers whether there was something to end': own(
    'says each time that it has ended a topic',
    (log) => ({ change: (topic, change) => log.change(topic, change) || change === 'end' }),
  ),
  '`end` ends a topic as well that the log does not know': own('ends only topics that it knows', (log) => ({
    change: (topic, change) => log.find([topic]).length > 0 && log.change(topic, change),
  })),
  '`reopen` takes back the end of a topic, and leaves its events': own(
    'begins anew with a topic that is reopened',
    (log, store) => ({
      change: (topic, change) => {
        const isChanged = log.change(topic, change);
        if (isChanged && change === 'reopen') store.drop(topic, store.head);
        return isChanged;
      },
    }),
  ),
  '`delete` removes the events and the end of a topic, and answers whether there were any': own(
    'leaves a deleted topic ended',
    (log, store) => ({
      change: (topic, change) => {
        const ended = store.topics.get(topic)?.ended === true;
        const isChanged = log.change(topic, change);
        if (isChanged && change === 'delete') store.topics.get(topic)!.ended = ended;
        return isChanged;
      },
    }),
  ),
  'a topic that was deleted and published to states only the older events as lost': own(
    'counts as lost what came after a topic was deleted',
    (log) => ({
      read: (topics, ...rest) => {
        const page = log.read(topics, ...rest) as LogPage;
        const last = (name: string): number => log.find([name])[0]?.last ?? 0;
        return { ...page, dropped: page.dropped.map(({ topic }) => ({ topic, seq: last(topic) })) };
      },
    }),
  ),

  // all or none
  '`append` keeps the entries of several topics in one call, and answers at once': own(
    'takes a call for one of a single topic',
    (log) => ({
      append: (entries, records) =>
        log.append(
          entries.filter(({ topic }) => topic === entries[0]!.topic),
          records,
        ),
    }),
  ),
  'an append that throws leaves nothing behind': own('keeps a part of what it refuses', keepsRefused(1)),
  'seqs may be missing: what comes after them is kept, and nothing counts as lost': reading(
    'takes a missing seq for a loss',
    ({ entries }) => {
      const at = entries.findIndex(({ seq }, i) => i > 0 && seq > entries[i - 1]!.seq + 1);
      return at === -1 ? {} : { truncated: entries[at]!.seq - 1 };
    },
  ),
  'an append without entries changes nothing': own('leaves behind what it tries to write', (log, store) => ({
    append: (entries, records) => {
      const frame = Buffer.from('data: probe\n\n');
      const probe = { seq: store.head, topic: 'probe', at: 0, frame, key: undefined };
      log.append(entries.length > 0 ? entries : [probe], records);
    },
  })),
  'an append without entries throws as long as nothing can be written': own(
    'tries nothing where there is nothing to append',
    (log) => ({
      append: (entries, records) => (entries.length > 0 ? log.append(entries, records) : undefined),
    }),
  ),

  // repeated requests
  'the record of a request is kept with its events, and is there after a restart as well':
    keepsRecordsInMemory(),
  'the record of a request that was refused is not kept': own('keeps a record first', (log, store) => ({
    append: (entries, records) => {
      for (const record of records) store.records.set(record.key, record);
      log.append(entries, records);
    },
  })),
  'a request that is sent again after a restart, with its key, gets its answer and is published once':
    keepsRecordsInMemory(),

  // restarts
  'a log that is closed and opened again has its entries, and what it knew of topics': own(
    'keeps in memory which topics have ended',
    (_log, store) => {
      for (const known of store.topics.values()) known.ended = false;
      return {};
    },
  ),
  'the head of a log that is opened again is its newest seq': own('counts its entries', (_log, store) => ({
    head: store.entries.length,
  })),
  'a log that is closed and opened again goes on in the same epoch': newEpochEachTime(),
  'after a crash each entry that was appended is there, or another epoch has begun': losesInACrash(),
  'where the newest entries were lost, another epoch begins after the newest that is left': losesItsTail(),
  'what an earlier epoch has left is read, or stated as lost': own(
    'leaves out earlier epochs',
    (log, store) => ({
      read: (topics, after, ...rest) => log.read(topics, Math.max(after, store.epochs.at(-1)!.base), ...rest),
    }),
  ),

  // a shared order
  '`follow` tells the epoch, and then each entry with the next seq': telling('loses an entry', (intake) => ({
    accept: (entries) => intake.accept(entries.filter(({ seq }) => seq !== 2)),
  })),
  'all nodes are told the same entries in the same order': tellsOneNodeOtherwise(),
  'the events of an append have consecutive seqs, whoever appends at the same time': shared(
    'appends the events of a batch one by one',
    (log) => ({
      append: async (topic, events, options) => {
        const [first, ...others] = events;
        const appended = await log.append(topic, [first!], options);
        for (const event of others) await log.append(topic, [event]);
        return { ...appended, count: events.length };
      },
    }),
  ),
  'a change of a topic has its place among the events, on all nodes': telling(
    'does not tell of changes',
    (intake) => ({
      accept: (entries) => {
        for (const entry of entries) {
          if ('change' in entry) intake.skip(entry.seq);
          else intake.accept([entry]);
        }
      },
    }),
  ),
  'a change of a topic that the log does not know changes nothing': shared(
    'says that it has changed topics that it does not know',
    (log) => ({ change: async (topic, change) => (await log.change(topic, change)) || true }),
  ),
  'a node that joins late is told where the order is, and reads what came before': telling(
    'does not tell where it begins',
    () => ({ skip: () => {} }),
  ),
  'a node that no longer finds its next entry in the feed is told to skip, and reads it': telling(
    'goes on with the oldest entry of the feed, without a word',
    (intake) => {
      let hasEntries = false;
      return {
        accept: (entries) => {
          hasEntries = true;
          intake.accept(entries);
        },
        skip: (seq) => {
          if (!hasEntries) intake.skip(seq);
        },
      };
    },
  ),
  'a node that is closed is told nothing more': shared('goes on when it is closed', () => ({
    close: async () => {},
  })),
  '`append` resolves after the intake of its node has accepted the events': answersBeforeItIsTold(),
  'an append that certainly was not sent rejects as unavailable, and is never published':
    sendsWhatItRefused(),
  'an append whose answer is lost rejects as unknown': shared(
    'says of every failure that nothing was sent',
    (log) => ({
      append: (topic, events, options) =>
        log.append(topic, events, options).catch((error: Error) => {
          throw Object.assign(new Error(error.message), { code: 'ERR_SSE_LOG_UNAVAILABLE', status: 503 });
        }),
    }),
  ),
  'an append to a topic that was ended on another node is refused, and publishes nothing': shared(
    'reopens a topic that is published to',
    (log) => ({
      append: async (topic, ...rest) => {
        await log.change(topic, 'reopen');
        return log.append(topic, ...rest);
      },
    }),
  ),
  'a request that is sent again after a lost answer is published once': keysPerNode(),
  'a second request with a key and its digest gets the answer of the first, on every node': sending(
    'has no keys',
    () => ({}),
  ),
  'a request with a key of another one is refused as a conflict, and publishes nothing': sending(
    'does not compare what is asked',
    ({ idempotency }) =>
      idempotency === undefined ? {} : { idempotency: { ...idempotency, digest: 'all the same' } },
  ),
  'of several appends behind the same event, one is taken, whichever nodes they come from': shared(
    'looks for the newest event before it appends',
    (log) => ({
      append: async (topic, events, { behind, ...options } = {}) => {
        const [record] = await log.find([topic]);
        if (behind !== undefined && !behind.endsWith(`-${record?.last ?? 0}`)) throw topicMoved(topic);
        return log.append(topic, events, options);
      },
    }),
  ),
  'an append behind an event that is no longer the newest of its topic is refused, and publishes nothing':
    sending('does not know `behind`', ({ behind: _, ...options }) => options),
  'a node that was away goes on where it was: nothing that others appended meanwhile is missing': telling(
    'goes on with what is appended after it is back',
    (intake) => {
      let isBack = false;
      return {
        back: () => {
          isBack = true;
          intake.back();
        },
        accept: (entries) => {
          intake.accept(isBack ? entries.slice(-1) : entries);
          isBack = false;
        },
      };
    },
  ),
  'a node that was away and has missed nothing is told no new epoch': renewsWhenBack(),
  'where the newest entries were lost, each node is told one new epoch before newer entries': telling(
    'goes on in the same epoch',
    (intake) => {
      let hasBegun = false;
      return {
        renew: (epoch, oldEnd) => {
          if (!hasBegun) intake.renew(epoch, oldEnd);
          hasBegun = true;
        },
      };
    },
  ),
  'the end that is told of an epoch is not above what the log has kept of it': telling(
    'says that it has kept one more than it has',
    (intake) => ({ renew: (epoch, oldEnd) => intake.renew(epoch, oldEnd + 1) }),
  ),
  'once a new epoch was told, `read` and `find` know only what came after it': shared(
    'mixes what it read in an earlier epoch with the present one',
    (log) => {
      const told: LogEntry[] = [];
      return {
        follow: (intake) =>
          log.follow({
            ...intakeMembers(intake),
            accept: (entries) => {
              told.push(...entries.filter((entry) => 'frame' in entry));
              intake.accept(entries);
            },
          }),
        read: async (topics, after, ...rest) => {
          const page = await log.read(topics, after, ...rest);
          const seqs = new Set(page.entries.map(({ seq }) => seq));
          const old = told.filter(
            ({ topic, seq }) => topics.includes(topic) && seq > after && !seqs.has(seq),
          );
          return { ...page, entries: [...page.entries, ...old] };
        },
      };
    },
  ),

  // with a hub
  'what was delivered is in the log, and what the log has refused is not delivered': own(
    'says that it has kept what it could not write',
    (log) => ({
      append: (entries, records) => {
        try {
          log.append(entries, records);
        } catch (error) {
          if (entries.length === 0) throw error;
        }
      },
    }),
  ),
  'what the log has refused is not delivered to those who read from the log either': own(
    'keeps what it refuses',
    keepsRefused(Infinity),
  ),
  'a client that returns gets all that it has missed of its topics, once and in order': reading(
    'loses the second entry of a page',
    ({ entries }) => ({ entries: entries.filter((_, i) => i !== 1) }),
  ),
  'a conflating client that returns gets the newest event of each key': own(
    'leaves out the newest event of a key, not the older ones',
    (log) => ({
      read: (topics, after, _maxBytes, { newestOnly }) => {
        const page = log.read(topics, after, Infinity, { newestOnly: false }) as LogPage;
        const isFirst = ({ key }: LogEntry, i: number): boolean =>
          key === undefined || page.entries.findIndex((entry) => entry.key === key) === i;
        return { ...page, entries: newestOnly ? page.entries.filter(isFirst) : page.entries };
      },
    }),
  ),
  'a client that returns after a loss gets one gap, up to the last lost event, and all that is left': reading(
    'states a loss one too low',
    ({ dropped }) => ({ dropped: dropped.map(({ topic, seq }) => ({ topic, seq: seq - 1 })) }),
  ),
  'a client whose topics have lost nothing gets no gap, whatever others have lost': own(
    'has one record of losses for all topics',
    (log, store) => ({
      read: (topics, after, ...rest) => {
        const newest = Math.max(...Array.from(store.topics.values(), ({ dropped }) => dropped));
        const page = log.read(topics, after, ...rest) as LogPage;
        const dropped = topics.map((topic) => ({ topic, seq: newest }));
        return { ...page, dropped: newest > after ? dropped : [] };
      },
    }),
  ),
  'a client that returns to a topic that was deleted gets a gap before what came after that':
    forgetsDeleted(),
  'a client with an id that a node has not reached waits for it, and gets no gap': telling(
    'gives each node an epoch of its own',
    (intake, node) => ({ renew: (epoch, oldEnd) => intake.renew(epoch + node, oldEnd) }),
  ),
  'a client with an id of an epoch that a node has not reached waits for it, and gets no gap': telling(
    'counts epochs otherwise on one node',
    (intake, node) => {
      let count = 0;
      return { renew: (epoch, oldEnd) => intake.renew(epoch + (node === 2 ? count++ : 0), oldEnd) };
    },
  ),
  'once `append` has answered, a client that resumes just before the event gets it': answersBeforeItIsTold(),
  'an event has the same id on every node': tellsOneNodeOtherwise(),
  'an append that was rejected as unavailable is not delivered later': sendsWhatItRefused(),
  'an append with an unknown outcome that is sent again with its key is delivered once': keysPerNode(),
  'a batch is delivered whole and with consecutive ids, live and from the log': own(
    'keeps the first entry of each call',
    (log) => ({ append: (entries, records) => log.append(entries.slice(0, 1), records) }),
  ),
  'while the log cannot be reached streams stay open, and afterwards go on without a gap': renewsWhenBack(),
  'a hub that starts while its log is away refuses events, keeps streams open, and begins later': telling(
    'does not say that it is back',
    () => ({ back: () => {} }),
  ),
  'a topic that is ended on one node ends the streams of every node, after its last event': telling(
    'takes one change for another',
    (intake) => ({
      accept: (entries) =>
        intake.accept(entries.map((entry) => ('change' in entry ? { ...entry, change: 'reopen' } : entry))),
    }),
  ),
  'a client that reads the log of a node that lags gets each event once': shared(
    'says that a page which was cut short reaches the head',
    (log, store) => ({
      read: async (...args) => {
        const page = await log.read(...args);
        return { ...page, until: Math.max(page.until, store.head!.seq) };
      },
    }),
  ),
  'after a loss of the newest events each stream gets `store-changed` once, before newer events': telling(
    'tells of a new epoch twice',
    (intake) => {
      let hasBegun = false;
      return {
        renew: (epoch, oldEnd) => {
          intake.renew(epoch, oldEnd);
          if (hasBegun) intake.renew(epoch + 1, 0);
          hasBegun = true;
        },
      };
    },
  ),
  'after a loss of the newest events a client gets what is left of the old order, then one gap':
    losesItsTail(),
  'a client that returns after a restart gets what it missed, without a gap': newEpochEachTime(),
  'ids go on after a restart: none is used twice': own('does not know its head', () => ({ head: 0 })),
  'a client that returns after a crash gets all newer events, or a gap before them': losesInACrash(),
  '`from: earliest` gives all that the log has, after a restart as well': own(
    'takes no limit for none',
    (log, store) => ({
      beforeNewest: (topics, count) => (count === Infinity ? store.head : log.beforeNewest(topics, count)),
    }),
  ),
  '`last` gives the newest events that the log has, after a restart as well': own(
    'counts the events of all topics',
    (log, store) => ({
      beforeNewest: (_topics, count) => log.beforeNewest([...store.topics.keys()], count),
    }),
  ),
  'a client that has all of a topic that has ended is refused with 204, after a restart as well':
    forgetsEnds(),
  'a topic that has ended takes no events, after a restart as well': forgetsEnds(),
  '`list` of a hub has the topics that the log knows, after a restart as well': own('lists nothing', () => ({
    list: () => [],
  })),
};

/** Keeps some of the entries that it refuses. */
function keepsRefused(count: number): OwnChange {
  return (log, store) => ({
    append: (entries: readonly LogEntry[], records) => {
      const { fails } = store;
      store.fails = false;
      log.append(fails ? entries.slice(0, count) : entries, records);
      store.fails = fails;
      if (fails) throw new Error('the store is full');
    },
  });
}
