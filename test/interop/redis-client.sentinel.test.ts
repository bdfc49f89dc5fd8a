import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { activeResources } from '../helpers/handles.ts';
import { clientKinds } from './helpers/redis-clients.ts';
import { failureOf, isSubset, Opened } from './helpers/redis-opened.ts';
import { type RedisProcess, startSentinels, until } from './helpers/redis-servers.ts';

for (const kind of clientKinds.filter(({ sentinel }) => sentinel !== undefined)) {
  describe(`a connection by Sentinels, made of a client of ${kind.name}`, { timeout: 120_000 }, () => {
    const start = async (t: TestContext) => {
      const password = 'secret';
      const group = await startSentinels(t, {
        args: ['--requirepass', password, '--masterauth', password],
        lines: ['sentinel auth-pass main secret'],
        cli: ['--no-auth-warning', '-a', password],
      });
      const ports = group.sentinels.map(({ port }) => port);
      const client = kind.sentinel?.({ ports, name: group.name, password });
      return { group, opened: new Opened(t, client) };
    };

    it('goes on at the replica that is promoted, each time', async (t) => {
      const { group, opened } = await start(t);
      await opened.up();
      assert.equal(await opened.send('INCR', 'counter'), 1);
      assert.equal(await opened.send('WAIT', '1', '0'), 1);
      const promoted = await group.failover();
      await opened.down();
      await until(async () => (await opened.send('INCR', 'counter').catch(() => 0)) === 2);
      assert.equal(await promoted.command('get', 'counter'), '2');

      await until(async () => (await opened.send('WAIT', '1', '0').catch(() => 0)) === 1);
      await promoted.kill();
      await until(() => !opened.connection.isUp);
      assert.equal((await failureOf(opened.send('INCR', 'counter'))).kind, 'unsent');
      await until(async () => (await opened.send('INCR', 'counter').catch(() => 0)) === 3);
      assert.equal(await (await group.primary()).command('get', 'counter'), '3');
    });

    it('answers in the shapes of RESP2, executes once, and leaves nothing behind', async (t) => {
      const idle = activeResources();
      const { group, opened } = await start(t);
      await opened.up();
      await opened.send('HSET', 'hash', 'a', '1');
      assert.deepEqual(await opened.send('HGETALL', 'hash'), ['a', '1']);
      const [first] = group.servers as [RedisProcess];
      const sent = failureOf(opened.send('BLPOP', 'never', '0'));
      await until(async () => (await first.command('info', 'clients')).includes('blocked_clients:1'));
      await first.command('client', 'kill', 'type', 'normal', 'skipme', 'yes');
      assert.equal((await sent).kind, 'unanswered');
      await opened.up();
      // It was not sent again.
      assert.ok((await first.command('info', 'clients')).includes('blocked_clients:0'));
      opened.connection.close();
      for (const process of [...group.servers, ...group.sentinels]) await process.kill();
      await until(() => isSubset(activeResources(), idle));
    });
  });
}
