import assert from 'node:assert/strict';
import { after, before, describe, it, type TestContext } from 'node:test';
import { freePort } from '../helpers/free-port.ts';
import { activeResources } from '../helpers/handles.ts';
import { type ClientKind, clientKinds } from './helpers/redis-clients.ts';
import { failureOf, isSubset, Opened } from './helpers/redis-opened.ts';
import { type RedisCluster, type RedisProcess, startCluster, until } from './helpers/redis-servers.ts';

const PATIENCE = 5000;

describe('a connection to a cluster', { timeout: 240_000 }, () => {
  let cluster: RedisCluster;
  const cleanups: (() => unknown)[] = [];
  before(async () => {
    cluster = await startCluster({ after: (done) => cleanups.unshift(done) });
  });
  after(async () => {
    for (const cleanup of cleanups) await cleanup();
  });

  const portsOf = ({ primaries }: RedisCluster) => primaries.map(({ port }) => port);
  /** A connection, and the counter that it is for. */
  const openFor = async (t: TestContext, kind: ClientKind, tag: string) => {
    const opened = await new Opened(t, kind.cluster({ ports: portsOf(cluster) })).up();
    const counter = `{${kind.name} ${tag}}counter`;
    const slot = await cluster.slotOf(counter);
    const owner = await cluster.ownerOf(slot);
    const other = cluster.primaries.find((node) => node !== owner) as RedisProcess;
    const { connection } = opened;
    const send = (...command: string[]) => connection.send(command, { key: counter, timeout: PATIENCE });
    return { opened, counter, slot, owner, other, send };
  };

  for (const kind of clientKinds) {
    describe(`made of a client of ${kind.name}`, () => {
      it('goes to the node that has the key, also with commands that have none', async (t) => {
        for (const tag of ['a', 'b', 'c', 'd', 'e', 'f']) {
          const { counter, owner, send } = await openFor(t, kind, tag);
          const hash = await send('SCRIPT', 'LOAD', "return redis.call('INCR', KEYS[1])");
          assert.equal(await send('EVALSHA', String(hash), '1', counter), 1);
          assert.equal(await owner.command('get', counter), '1');
          assert.equal(await send('CLUSTER', 'MYID'), await owner.command('cluster', 'myid'));
        }
      });

      it('is sent on to another node by a key that is there', async (t) => {
        const { opened, send } = await openFor(t, kind, 'home');
        for (let i = 0; i < 30; i++) assert.equal(await send('SET', `${kind.name} ${i}`, String(i)), 'OK');
        for (let i = 0; i < 30; i++) assert.equal(await send('GET', `${kind.name} ${i}`), String(i));
        assert.deepEqual(opened.said, ['up']);
      });

      it('asks the node that was given the key before its slot, and goes there with the slot', async (t) => {
        const { opened, counter, slot, other, send } = await openFor(t, kind, 'ask');
        assert.equal(await send('INCR', counter), 1);
        const move = await cluster.beginMove(slot, other);
        assert.equal(await send('INCR', counter), 2);
        await move.migrate(counter);
        assert.deepEqual(await Promise.all([1, 2, 3].map(() => send('INCR', counter))), [3, 4, 5]);
        assert.equal(await other.command('cluster', 'countkeysinslot', String(slot)), '1');
        await move.finish();
        assert.deepEqual(await Promise.all([1, 2, 3].map(() => send('INCR', counter))), [6, 7, 8]);
        assert.equal(await send('CLUSTER', 'MYID'), await other.command('cluster', 'myid'));
        assert.deepEqual(opened.said, ['up']);
      });

      it('tells that keys are at two nodes', async (t) => {
        const { counter, slot, other, send } = await openFor(t, kind, 'again');
        const second = counter.replace('counter', 'second');
        await send('MSET', counter, '1', second, '2');
        const move = await cluster.beginMove(slot, other);
        await move.migrate(counter);
        const failure = await failureOf(send('MGET', counter, second));
        assert.deepEqual([failure.kind, failure.reply], ['reply', 'TRYAGAIN']);
        await move.finish();
        assert.deepEqual(await send('MGET', counter, second), ['1', '2']);
      });

      it('executes each command once while its slot moves to and fro', async (t) => {
        const { opened, counter, slot, owner, other, send } = await openFor(t, kind, 'fro');
        let sent = 0;
        let isMoving = true;
        const increase = async () => {
          while (isMoving) {
            await Promise.all(Array.from({ length: 10 }, () => send('INCR', counter)));
            sent += 10;
          }
        };
        const increasing = increase();
        for (const target of [other, owner, other, owner]) {
          const from = sent;
          await until(() => sent > from);
          await (await cluster.beginMove(slot, target)).finish();
        }
        isMoving = false;
        await increasing;
        assert.equal(await send('GET', counter), String(sent));
        assert.deepEqual(opened.said, ['up']);
      });

      it('hears of a slot that moves while it blocks, and holds up no other', async (t) => {
        const { counter, slot, other, send } = await openFor(t, kind, 'block');
        const { send: sendOther } = await openFor(t, kind, 'block');
        const stream = counter.replace('counter', 'stream');
        await send('XADD', stream, '1-1', 'a', '1');
        const read = send('XREAD', 'BLOCK', '4000', 'STREAMS', stream, '1-1');
        assert.equal(await sendOther('INCR', counter), 1);
        const move = await cluster.beginMove(slot, other);
        await move.finish();
        await sendOther('XADD', stream, '1-2', 'a', '2');
        assert.deepEqual(await read, [[stream, [['1-2', ['a', '2']]]]]);
      });

      it('leaves nothing behind, wherever it was sent on', async (t) => {
        const idle = activeResources();
        for (const tag of ['a', 'b', 'c', 'd', 'e', 'f']) {
          const { opened, counter, send } = await openFor(t, kind, tag);
          await send('INCR', counter);
          opened.connection.close();
        }
        await until(() => isSubset(activeResources(), idle));
      });

      it('is down while no node is there', async (t) => {
        const opened = new Opened(t, kind.cluster({ ports: [await freePort()] }));
        assert.equal((await opened.down()).kind, 'unsent');
        await until(() => opened.reasons.length > 2);
        assert.ok(!opened.said.includes('up'));
      });
    });
  }

  for (const kind of clientKinds) {
    it(`made of a client of ${kind.name} goes on at the replica that takes over`, async (t) => {
      const password = 'secret';
      const args = ['--requirepass', password, '--masterauth', password];
      const cli = ['--no-auth-warning', '-a', password];
      const own = await startCluster(t, { replicas: 1, args, cli });
      const opened = await new Opened(t, kind.cluster({ ports: portsOf(own), password })).up();
      assert.equal(await opened.send('INCR', 'counter'), 1);
      assert.equal(await opened.send('WAIT', '1', '0'), 1);
      const owner = await own.ownerOf(await own.slotOf('counter'));
      await owner.kill();
      await opened.down();
      assert.equal((await failureOf(opened.send('INCR', 'counter'))).kind, 'unsent');
      await opened.up();
      assert.equal(await opened.send('INCR', 'counter'), 2);
      // A primary again for a moment, before the others tell it.
      await owner.start();
      assert.equal(await opened.send('INCR', 'counter'), 3);
    });
  }
});
