// A process that reads a stream and prints the data of each event that it has processed, until it is killed.
import { connect } from '../../lib/client.ts';
import { fileStorage } from '../../lib/positions.ts';

const [url, path] = process.argv.slice(2);
for await (const event of connect(url!, { storage: fileStorage(path!), storageKey: 'position' })) {
  // Each event takes a turn of the event loop, so that a position is stored while later events are processed.
  await new Promise((resolve) => process.stdout.write(`${event.data}\n`, () => setImmediate(resolve)));
}
