import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { Result } from '../../lib/command/check-report.ts';
import { formatId, parseId, readyEvent } from '../../lib/protocol.ts';
import { createSseServer, type SseServerOptions } from '../../lib/server.ts';
import { run } from '../helpers/command.ts';
import { serve } from '../helpers/server.ts';

interface Checked extends Result {
  readonly code: number;
}

async function check(argv: readonly string[], signal?: AbortSignal): Promise<Checked> {
  const { code, stdout, stderr } = await run('check', ['--json', ...argv], { signal });
  assert.ok(stdout !== '', stderr);
  return { code, ...(JSON.parse(stdout) as Result) };
}

async function ours(t: TestContext, options: SseServerOptions = {}, port = 0) {
  const server = createSseServer(options);
  const url = await server.listen(port);
  t.after(() => server.close({ deadline: 0 }));
  return { url, hub: server.hub, close: () => server.close({ deadline: 0 }) };
}

const QUICK = ['--duration', '1s', '--rate', '200', '--readers', '5', '--seed', '7'];

describe('sluice check, with the reference server', () => {
  it('finds nothing, over many connections that it cuts', async (t) => {
    const { url, hub } = await ours(t);
    const { code, findings, counts, problem, seed, topics } = await check([...QUICK, url]);
    assert.deepEqual(
      { code, findings, problem, seed },
      { code: 0, findings: [], problem: undefined, seed: 7 },
    );
    assert.match(topics.join(), /^check-[0-9a-f]{12}$/);
    assert.equal(hub.stats.published, counts.published);
    assert.equal(counts.readers, 6);
    // Each of them received all, and one read them once more.
    assert.equal(counts.events, counts.published * 6);
    assert.ok(counts.cuts >= 5 && counts.connections > counts.readers, JSON.stringify(counts));
  });

  it('says in a few lines what it did', async (t) => {
    const { url } = await ours(t);
    const { code, stdout, stderr } = await run('check', [...QUICK, '--topic', 'mine', url]);
    assert.equal(code, 0, stderr);
    assert.match(
      stdout,
      /^seed 7, topic mine\n\d+ events published, 0 of unknown outcome\n(.+\n){2}nothing was found\n$/,
    );
  });

  it('shows on a terminal how far it is, in one line that it removes', async (t) => {
    const { url } = await ours(t);
    const { code, stderr } = await run('check', ['--duration', '1500ms', '--readers', '2', url], {
      isTTY: true,
    });
    assert.equal(code, 0);
    assert.match(
      stderr,
      /^(\r\x1b\[Ksluice check: \d+ events published, \d+ connections of [23] readers)+\r\x1b\[K$/,
    );
  });

  it('publishes one event where the rate gives less than one', async (t) => {
    const { url } = await ours(t);
    const argv = ['--rate', '1', '--duration', '900ms', '--readers', '1', url];
    const { code, counts } = await check(argv);
    assert.deepEqual([code, counts.published], [0, 1]);
  });

  it('accepts the gaps of a history that is too short', async (t) => {
    const { url } = await ours(t, { hub: { history: { maxEvents: 4 } } as never });
    const { code, findings, counts } = await check([...QUICK, '--rate', '1000', url]);
    assert.deepEqual({ code, findings }, { code: 0, findings: [] });
    assert.ok(counts.gaps > 0);
  });

  it('accepts the gaps of a server that is restarted in between', async (t) => {
    const first = await ours(t);
    const port = Number(new URL(first.url).port);
    const checking = check([...QUICK, '--duration', '3s', first.url]);
    while (first.hub.stats.published < 100) await new Promise((resolve) => setTimeout(resolve, 10));
    await first.close();
    const second = await ours(t, {}, port);
    const { code, findings, counts, problem } = await checking;
    assert.deepEqual({ code, findings, problem }, { code: 0, findings: [], problem: undefined });
    assert.ok(counts.gaps > 0);
    assert.ok(second.hub.stats.published > 0);
  });

  it('compares the readers of a topic that others publish to, and publishes nothing', async (t) => {
    const { url, hub } = await ours(t);
    let published = 0;
    const timer = setInterval(() => hub.publish(published % 2 ? 'a' : 'b', { data: `${++published}` }), 5);
    t.after(() => clearInterval(timer));
    const argv = [
      '--read-only',
      '--topic',
      'a',
      '--topic',
      'b',
      '--readers',
      '4',
      '--duration',
      '1500ms',
      url,
    ];
    const { code, findings, counts } = await check(argv);
    assert.deepEqual({ code, findings }, { code: 0, findings: [] });
    assert.equal(counts.published, 0);
    assert.ok(counts.events > 0 && counts.cuts > 0);
  });

  it('sends a token, of the command line or of a file', async (t) => {
    const tokens = { publishTokens: ['secret'], subscribeTokens: ['secret'] };
    const { url } = await ours(t, tokens);
    const folder = mkdtempSync(join(tmpdir(), 'sluice-check-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const file = join(folder, 'token');
    writeFileSync(file, 'secret\n');
    for (const token of [
      ['--token', 'secret'],
      ['--token-file', file],
    ]) {
      assert.equal((await check([...QUICK, '--duration', '200ms', ...token, url])).code, 0);
    }
    const { code, stderr } = await run('check', [...QUICK, url]);
    assert.equal(code, 1);
    assert.match(stderr, /^sluice check: no reader got a stream: the server answered 401/);
  });

  it('says that nothing could be published', async (t) => {
    const { url } = await ours(t, { publishTokens: ['secret'] });
    const { code, stderr } = await run('check', [...QUICK, url]);
    assert.equal(code, 1);
    assert.match(stderr, /^sluice check: nothing could be published: the server answered 401/);
  });

  it('reports what it has where the server takes no more events', async (t) => {
    const { url, hub } = await ours(t);
    const checking = check(['--duration', '1h', '--readers', '3', '--topic', 'mine', url]);
    while (hub.stats.published < 50) await new Promise((resolve) => setTimeout(resolve, 10));
    hub.end('mine');
    const { code, findings, counts, problem } = await checking;
    assert.deepEqual({ code, findings }, { code: 1, findings: [] });
    assert.match(problem!, /^not everything could be published: the server answered 4/);
    assert.ok(counts.events > 0);
  });

  it('reports what it has when it is interrupted', async (t) => {
    const { url, hub } = await ours(t);
    const stop = new AbortController();
    const checking = check(['--duration', '1h', '--readers', '3', url], stop.signal);
    while (hub.stats.published < 50) await new Promise((resolve) => setTimeout(resolve, 10));
    stop.abort('SIGINT');
    const { code, ended, findings, counts } = await checking;
    assert.deepEqual({ code, ended, findings }, { code: 0, ended: 'interrupted', findings: [] });
    assert.ok(counts.events > 0);
  });
});

// ── a server that is wrong ────────────────────────────────────────────────────────────────────────────────

interface Sent {
  readonly id: string;
  readonly data: string;
}

/** What a server does to what a reader has missed. */
type Fault = (missed: readonly Sent[]) => readonly Sent[];

const frame = ({ id, data }: Sent): string => `id: ${id}\ndata: ${data}\n\n`;

/** Takes and sends events as ours does, but for what a reader gets after it has come back. */
async function faulty(t: TestContext, fault: Fault) {
  const log: Sent[] = [];
  const readers = new Set<ServerResponse>();
  const publish = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    let body = '';
    for await (const chunk of req) body += chunk;
    const lines = body.split('\n').filter(Boolean);
    const events = lines.map((line, i) => ({
      id: formatId(5, log.length + i + 1),
      data: JSON.parse(line).data,
    }));
    log.push(...events);
    for (const reader of readers) reader.write(events.map(frame).join(''));
    res.writeHead(200, { 'content-type': 'application/json' });
    res.end(JSON.stringify({ ids: events.map(({ id }) => id) }));
  };
  const subscribe = ({ headers }: IncomingMessage, res: ServerResponse): void => {
    const text = headers['last-event-id'];
    const after = text === undefined ? log.length : parseId(String(text))!.seq;
    const { id, event, data } = readyEvent(formatId(5, after), ['t']);
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    const missed = text === undefined ? [] : log.slice(after);
    res.write(`id: ${id}\nevent: ${event}\ndata: ${data}\n\n${fault(missed).map(frame).join('')}`);
    readers.add(res);
    res.on('close', () => readers.delete(res));
  };
  return serve(t, (req, res) => (req.method === 'POST' ? publish(req, res) : subscribe(req, res)));
}

const isLong = (missed: readonly Sent[]): boolean => missed.length >= 3 && missed.length < 200;

const FAULTS: readonly {
  readonly does: string;
  readonly name: keyof Result['counts']['findings'];
  fault: Fault;
}[] = [
  {
    does: 'loses an event',
    name: 'silent-hole',
    fault: (missed) => (isLong(missed) ? [missed[0]!, ...missed.slice(2)] : missed),
  },
  {
    does: 'doubles an event',
    name: 'duplicate',
    fault: (missed) => (isLong(missed) ? [missed[0]!, ...missed] : missed),
  },
  {
    does: 'reorders two events',
    name: 'reorder',
    fault: (missed) => (isLong(missed) ? [missed[1]!, missed[0]!, ...missed.slice(2)] : missed),
  },
  {
    does: 'changes an event',
    name: 'inconsistent-id',
    fault: (missed) => (isLong(missed) ? [{ ...missed[0]!, data: 'changed' }, ...missed.slice(1)] : missed),
  },
];

describe('sluice check, with a server that is wrong after a reconnect', () => {
  it('finds nothing where it is right', async (t) => {
    const { url } = await faulty(t, (missed) => missed);
    const { code, findings } = await check([...QUICK, url]);
    assert.deepEqual({ code, findings }, { code: 0, findings: [] });
  });

  for (const { does, name, fault } of FAULTS) {
    it(`says ${name} where it ${does}`, async (t) => {
      const { url } = await faulty(t, fault);
      const { code, counts, findings } = await check([...QUICK, '--grace', '1s', url]);
      assert.equal(code, 1);
      assert.ok(counts.findings[name] > 0, JSON.stringify(findings));
      assert.match(findings.find((finding) => finding.name === name)!.message, /^reader \d: event/);
    });
  }

  it('prints the findings with their names', async (t) => {
    const { url } = await faulty(t, FAULTS[0]!.fault);
    const { code, stdout } = await run('check', [...QUICK, '--grace', '1s', url]);
    assert.equal(code, 1);
    assert.match(stdout, /^silent-hole: reader \d: events? \d.* did not arrive, and no gap says so \(5-\d+/m);
  });
});

// ── any server ────────────────────────────────────────────────────────────────────────────────────────────

/** Sends events with opaque ids and no control events; without ids where `isBare`. */
async function foreign(
  t: TestContext,
  { fault = (missed) => missed, isBare = false }: { fault?: Fault; isBare?: boolean } = {},
) {
  const log: Sent[] = [];
  const readers = new Set<ServerResponse>();
  const text = (event: Sent): string => (isBare ? `data: ${event.data}\n\n` : frame(event));
  const timer = setInterval(() => {
    const event = { id: randomBytes(9).toString('base64'), data: `${log.length}` };
    log.push(event);
    for (const reader of readers) reader.write(text(event));
  }, 5);
  t.after(() => clearInterval(timer));
  return serve(t, ({ headers }, res) => {
    const at = log.findIndex(({ id }) => id === headers['last-event-id']);
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    res.write(
      `: hello\n\n${
        at < 0
          ? ''
          : fault(log.slice(at + 1))
              .map(text)
              .join('')
      }`,
    );
    readers.add(res);
    res.on('close', () => readers.delete(res));
  });
}

describe('sluice check --foreign', () => {
  const argv = ['--foreign', '--duration', '1s', '--readers', '5', '--seed', '3'];

  it('finds nothing where a plain server resumes after opaque ids', async (t) => {
    const { url } = await foreign(t);
    const { code, findings, counts } = await check([...argv, `${url}some/stream?a=b`]);
    assert.deepEqual({ code, findings }, { code: 0, findings: [] });
    assert.ok(counts.cuts > 0 && counts.gaps === 0);
  });

  for (const { does, name, fault } of FAULTS) {
    it(`says ${name} where it ${does}`, async (t) => {
      const { url } = await foreign(t, { fault });
      const { code, counts, findings } = await check([...argv, '--grace', '1s', url]);
      assert.equal(code, 1);
      assert.ok(counts.findings[name] > 0, JSON.stringify(findings));
    });
  }

  it('says that there are no ids', async (t) => {
    const { url } = await foreign(t, { isBare: true });
    const { code, problem } = await check([...argv, url]);
    assert.deepEqual(
      { code, problem },
      { code: 1, problem: 'the events have no ids, so no reader can resume' },
    );
  });

  it('says that there were no events', async (t) => {
    const { url } = await serve(t, (_, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
    });
    const { code, problem } = await check([...argv, '--duration', '100ms', url]);
    assert.deepEqual({ code, problem }, { code: 1, problem: 'no events were seen' });
  });
});

describe('the command line of sluice check', () => {
  it('refuses what it cannot do, by the name of the option', async () => {
    for (const [argv, message] of [
      [[], 'expected one URL, got none'],
      [['a', 'b'], 'expected one URL, got 2'],
      [['--read-only', 'a'], '--read-only needs --topic'],
      [['--foreign', '--topic', 't', 'a'], '--topic and --foreign exclude each other'],
      [['--foreign', '--rate', '1', 'a'], '--rate and --foreign exclude each other'],
      [['--topic', 't', '--topic', 'u', 'a'], '--topic may be repeated with --read-only alone'],
      [['--topic', '/', 'a'], '--topic must be 1 to 200 characters'],
      [['--rate', '0', 'a'], '--rate must be a whole number from 1 to 10000, got "0"'],
      [['--readers', '501', 'a'], '--readers must be a whole number from 1 to 500, got "501"'],
      [['--duration', '2h', 'a'], '--duration must be at most 1h, got "2h"'],
      [['--rate', '10000', '--duration', '1h', 'a'], '--rate and --duration may make 2000000 events at most'],
      [['--seed', '-1', 'a'], '--seed must be a whole number'],
    ] as const) {
      const { code, stderr } = await run('check', argv);
      assert.equal(code, 2, argv.join(' '));
      assert.ok(stderr.startsWith(`sluice check: ${message}`), stderr);
    }
  });

  it('says that the server is away', async () => {
    const { code, stdout, stderr } = await run('check', [...QUICK, '--grace', '200ms', 'http://127.0.0.1:1']);
    assert.deepEqual({ code, stdout }, { code: 1, stdout: '' });
    assert.match(stderr, /^sluice check: no reader got a stream: connect ECONNREFUSED/);
  });

  it('explains itself', async () => {
    const { code, stdout } = await run('check', ['--help']);
    assert.equal(code, 0);
    assert.match(stdout, /^Usage: sluice check \[options\] URL\n/);
  });
});
