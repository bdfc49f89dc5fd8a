import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { fileStorage, PositionSaver, type PositionStorage } from '../lib/positions.ts';
import { idOf } from './helpers/misbehaving.ts';

async function temporaryFile(t: TestContext): Promise<{ folder: string; path: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-'));
  t.after(() => rm(folder, { recursive: true }));
  return { folder, path: join(folder, 'positions.json') };
}

describe('fileStorage', () => {
  it('stores positions by key, and reads them again from its file', async (t) => {
    const { path } = await temporaryFile(t);
    const storage = fileStorage(path);
    assert.equal(await storage.getItem('a'), null);
    await Promise.all([storage.setItem('a', idOf(1)), storage.setItem('__proto__', idOf(2))]);
    await storage.setItem('a', idOf(3));
    const again = fileStorage(path);
    assert.equal(await again.getItem('a'), idOf(3));
    assert.equal(await again.getItem('__proto__'), idOf(2));
    assert.equal(await again.getItem('toString'), null);
  });

  it('removes the unfinished files of killed processes, and no other files', async (t) => {
    const { folder, path } = await temporaryFile(t);
    await writeFile(`${path}.17.tmp`, '{"a":');
    await writeFile(`${path}.other.tmp`, 'another file');
    await fileStorage(path).setItem('a', idOf(1));
    assert.deepEqual((await readdir(folder)).sort(), ['positions.json', 'positions.json.other.tmp']);
  });

  it('rejects with a code and leaves the file as it is where that holds something else', async (t) => {
    const { path } = await temporaryFile(t);
    const code = 'ERR_SSE_POSITION_FILE';
    for (const text of ['not JSON', '"abc"', '["1795408776829004-1"]', 'null', '{"a":{"b":1}}', '{"a":7}']) {
      await writeFile(path, text);
      const message = /^cannot read positions from .*positions\.json: ./;
      await assert.rejects(async () => fileStorage(path).getItem('a'), { code, message });
      await assert.rejects(async () => fileStorage(path).setItem('a', idOf(1)), { code });
      assert.equal(await readFile(path, 'utf8'), text);
    }
  });

  it('reads the file again after a failure that has passed', async (t) => {
    const { path } = await temporaryFile(t);
    await mkdir(path);
    const storage = fileStorage(path);
    await assert.rejects(async () => storage.getItem('a'), { code: 'ERR_SSE_POSITION_FILE' });
    await rmdir(path);
    await storage.setItem('a', idOf(1));
    assert.equal(await storage.getItem('a'), idOf(1));
  });

  it('shares its file with other storages of the process: each keeps the positions of the others', async (t) => {
    const { path } = await temporaryFile(t);
    const storages = [fileStorage(path), fileStorage(relative('.', path)), fileStorage(path)];
    for (const storage of storages) await storage.getItem('a');
    const keys = ['a', 'b', 'c'];
    for (let seq = 1; seq <= 20; seq++)
      await Promise.all(storages.map((storage, i) => storage.setItem(keys[i]!, idOf(seq))));
    assert.deepEqual(
      JSON.parse(await readFile(path, 'utf8')),
      Object.fromEntries(keys.map((key) => [key, idOf(20)])),
    );
    assert.equal(await storages[0]!.getItem('c'), idOf(20));
  });

  it('lets only its owner read the file, whose keys are URLs with secrets', async (t) => {
    const { path } = await temporaryFile(t);
    await fileStorage(path).setItem('http://127.0.0.1/events?token=secret', idOf(1));
    assert.equal((await stat(path)).mode & 0o777, 0o600);
  });

  it('rejects with the system error where the file cannot be written', async () => {
    const storage = fileStorage('/no/such/folder/positions.json');
    await assert.rejects(async () => storage.setItem('a', idOf(1)), { code: 'ENOENT' });
  });
});

describe('PositionSaver', () => {
  it('writes one position at a time, and skips those that are outdated by then', async () => {
    const written: string[] = [];
    let finish = (): void => {};
    const storage: PositionStorage = {
      getItem: () => null,
      setItem: (_, position) => {
        written.push(position);
        return new Promise<void>((resolve) => {
          finish = resolve;
        });
      },
    };
    const saver = new PositionSaver(storage, 'a');
    for (const seq of [1, 2, 3]) saver.save(idOf(seq));
    assert.deepEqual(written, [idOf(1)]);
    finish();
    while (written.length < 2) await Promise.resolve();
    finish();
    await saver.flush();
    assert.deepEqual(written, [idOf(1), idOf(3)]);
  });

  it('throws the error of the storage at each later save and flush', async () => {
    const storage: PositionStorage = {
      getItem: () => null,
      setItem: () => Promise.reject(new Error('disk full')),
    };
    const saver = new PositionSaver(storage, 'a');
    saver.save(idOf(1));
    await assert.rejects(saver.flush(), /disk full/);
    await assert.rejects(saver.flush(), /disk full/);
    assert.throws(() => saver.save(idOf(2)), /disk full/);
  });
});
