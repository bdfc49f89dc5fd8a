// A process that reads a stream and says on stdout what it has processed, until it is killed.
import { connect, fileStorage } from '../../lib/client.ts';

const [url, path] = process.argv.slice(2);
for await (const event of connect(url!, { storage: fileStorage(path!), storageKey: 'place' })) {
  // A turn of the event loop for each, as real work takes: a place is stored while later events are processed.
  await new Promise((resolve) => process.stdout.write(`${event.data}\n`, () => setImmediate(resolve)));
}
