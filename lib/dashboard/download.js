// Saves the events of the list as JSON lines.
import { make } from './elements.js';
import { NOTE, shownEntries } from './store.js';

/** Events that are joined to one part of the file. */
const PART = 1000;

/** Saves what the filter lets through, oldest first, without the notes of the dashboard. */
export function download() {
  const entries = shownEntries().filter(({ type }) => type !== NOTE);
  const parts = [];
  for (let i = 0; i < entries.length; i += PART) {
    const lines = entries.slice(i, i + PART).map(({ at, topic, id, type, data, isReplay }) => {
      return `${JSON.stringify({ time: new Date(at).toISOString(), topic, id, event: type, data, replayed: isReplay })}\n`;
    });
    parts.push(lines.join(''));
  }
  const link = make('a');
  link.href = URL.createObjectURL(new Blob(parts, { type: 'application/x-ndjson' }));
  link.download = 'sluice-events.jsonl';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
