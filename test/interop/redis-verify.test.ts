import assert from 'node:assert/strict';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { after, describe, it } from 'node:test';
import { RedisLog, type RedisLogOptions } from '../../lib/redis.ts';
import { freePort } from '../helpers/free-port.ts';
import type { Cleanup } from '../helpers/server.ts';
import { listen } from '../helpers/server.ts';
import { clientKinds, type ServerSetting } from './helpers/redis-clients.ts';
import { RedisNode } from './helpers/redis-node.ts';
import { startRedis, until } from './helpers/redis-servers.ts';

const server = await startRedis({ after });

let hubs = 0;

/** A server of the protocol that answers each command with what a test says, and else as Redis does. */
async function startFake(t: Cleanup, answer: (words: readonly string[]) => string): Promise<number> {
  const sockets = new Set<Socket>();
  const fake = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      for (const command of String(chunk).split(/(?=^\*\d+\r$)/m)) {
        const words = command.split('\r\n').filter((_, i) => i > 0 && i % 2 === 0);
        socket.write(answer(words.filter((word) => word !== '').map((word) => word.toLowerCase())));
      }
    });
  });
  t.after(() => {
    for (const socket of sockets) socket.destroy();
  });
  return listen(t, fake);
}

const bulk = (text: string): string => `$${text.length}\r\n${text}\r\n`;

for (const { name, single } of clientKinds) {
  describe(`verify, with ${name}`, () => {
    const open = (t: Cleanup, setting: ServerSetting, options: RedisLogOptions = {}): RedisLog => {
      const log = new RedisLog(single(setting), { name: `hub-${++hubs}`, ...options });
      t.after(() => log.close());
      return log;
    };

    it('resolves with true where the log can work, and the hub then follows it', async (t) => {
      const log = open(t, server);
      assert.equal(await log.verify(), true);
      let epoch = 0;
      log.follow({ accept() {}, skip() {}, renew: (told) => (epoch = told), away() {}, back() {} });
      await until(() => epoch > 0);
    });

    it('resolves with false where Redis cannot be reached', async (t) => {
      assert.equal(await open(t, { port: await freePort() }).verify(), false);
    });

    it('rejects where the password is wrong or missing, without telling it', async (t) => {
      const locked = await startRedis(t, {
        args: ['--requirepass', 'right'],
        cli: ['-a', 'right', '--no-auth-warning'],
      });
      for (const setting of [{ password: 'secret-guess' }, {}]) {
        await assert.rejects(open(t, { port: locked.port, ...setting }).verify(), (error: Error) => {
          assert.equal((error as { code?: string }).code, 'ERR_SSE_REDIS_DENIED');
          assert.doesNotMatch(`${error.stack} ${JSON.stringify(error.cause)}`, /secret-guess/);
          return true;
        });
      }
    });

    it('rejects where the user may not run the commands of the log', async (t) => {
      await server.command(
        'acl',
        'setuser',
        'reader',
        'on',
        '>pass',
        '~*',
        '+@read',
        '+@connection',
        '+info',
      );
      const log = open(t, { port: server.port, username: 'reader', password: 'pass' });
      await assert.rejects(log.verify(), { code: 'ERR_SSE_REDIS_DENIED' });
    });

    it('rejects where the user lacks one of the commands, and names it', async () => {
      const name = `hub-${++hubs}`;
      const all = ['xread', 'wait', 'rpush', 'zunionstore', 'xtrim', 'lpop', 'xrange'];
      await server.command(
        'acl',
        'setuser',
        name,
        'on',
        '>pass',
        `~{${name}}:*`,
        '+@all',
        '-@dangerous',
        '+info',
      );
      const verified = () => {
        const client = single({ port: server.port, username: name, password: 'pass' });
        const log = new RedisLog(client, { name, wait: { replicas: 1, timeout: 1 } });
        return log.verify().finally(() => log.close());
      };
      assert.equal(await verified(), true);
      for (const command of all) {
        await server.command('acl', 'setuser', name, `-${command}`);
        const message = new RegExp(`^Redis refuses this user: .*${command}`, 'i');
        await assert.rejects(verified(), { code: 'ERR_SSE_REDIS_DENIED', message });
        await server.command('acl', 'setuser', name, `+${command}`);
      }
      assert.equal(await server.command('exists', `{${name}}:trial`), '0');
    });

    it('rejects where a key is of another application', async (t) => {
      for (const key of ['meta', 'feed', 'index', 'names', 'stale']) {
        const log = open(t, server);
        await server.command('set', `{hub-${hubs}}:${key}`, 'foreign');
        await assert.rejects(log.verify(), {
          code: 'ERR_SSE_REDIS_FOREIGN',
          message: new RegExp(`the key "{hub-${hubs}}:${key}" is a string`),
        });
      }
    });

    it('rejects where a later version has written the keys, and so does an append', async (t) => {
      const log = open(t, server);
      await server.command('hset', `{hub-${hubs}}:meta`, 'format', '2', 'epoch', '5', 'head', '7');
      await assert.rejects(log.verify(), { code: 'ERR_SSE_REDIS_NEWER', message: /format 2/ });
      assert.equal(await server.command('hlen', `{hub-${hubs}}:meta`), '3');
    });

    it('rejects where it is no Redis', async (t) => {
      const port = await listen(
        t,
        createHttpServer((_, res) => res.end('hello')),
      );
      await assert.rejects(open(t, { port }).verify(), { code: 'ERR_SSE_REDIS_FOREIGN' });
    });

    it('rejects where the server is too old', async (t) => {
      const info = 'redis_version:5.0.14\r\nloading:0\r\nrole:master';
      const port = await startFake(t, ([word]) => {
        if (word === 'info') return bulk(info);
        return word === 'hello' ? '-ERR unknown command\r\n' : '+OK\r\n';
      });
      await assert.rejects(open(t, { port }).verify(), {
        code: 'ERR_SSE_REDIS_VERSION',
        // Some clients cannot even say hello to it.
        message: /^the log needs Redis 6.2 or later, and this is 5.0.14$|unknown command/,
      });
    });
  });
}

describe('a log whose Redis must be changed first', () => {
  it('says why in the failure of its node, and works once that is done', async (t) => {
    const own = await startRedis(t);
    const node = await RedisNode.open(t, own.port);
    await node.put('a', '1');
    await own.command('hset', node.keys.meta, 'format', '2');
    await assert.rejects(node.put('a', '2'), { message: /later version/ });
    await until(() => node.heard.isAway);
    await own.command('hset', node.keys.meta, 'format', '1');
    await until(() => !node.heard.isAway);
    await node.put('a', '3');
    assert.deepEqual(await node.texts('a'), ['1', '3']);
  });
});
