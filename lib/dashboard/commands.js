// Writes what publishes an event again, and what reads on after it, as commands and as JavaScript.

/** @import { Entry } from './store.js' */

/** @typedef {{ curl: string, js: string, cli: string }} Commands */

/**
 * @param {Entry} entry
 * @param {string} base The URL of the server, which ends in a slash.
 * @param {boolean} needsToken Then the commands read a token from the variable `TOKEN`.
 * @returns {{ publish: Commands, read: Commands }}
 */
export function commandsFor({ topic, type, id, data }, base, needsToken) {
  const event = type === 'message' ? '' : `?${new URLSearchParams({ event: type })}`;
  const target = new URL(`topics/${encodeURIComponent(topic)}${event}`, base).href;
  const events = new URL(`events?${new URLSearchParams({ topic })}`, base).href;
  const after = `${events}&${new URLSearchParams({ lastEventId: id })}`;
  const header = needsToken ? ' -H "authorization: Bearer $TOKEN"' : '';
  const token = needsToken ? ' --token "$TOKEN"' : '';
  const headers = needsToken ? "\n  headers: { authorization: 'Bearer TOKEN' }," : '';
  // EventSource sends no header: a ticket takes the place of the token, for one connection.
  const ticket = needsToken
    ? `const answer = await fetch(${JSON.stringify(new URL('tickets', base).href)}, {\n  method: 'POST',${headers}\n});\nconst { ticket } = await answer.json();\n`
    : '';
  const source = needsToken ? `${JSON.stringify(`${after}&ticket=`)} + ticket` : JSON.stringify(after);
  const line = JSON.stringify(type === 'message' ? { data } : { event: type, data });
  return {
    publish: {
      curl: `curl${header} -H 'content-type: text/plain' --data-raw ${quoted(data)} ${quoted(target)}`,
      js: `await fetch(${JSON.stringify(target)}, {\n  method: 'POST',${headers}\n  body: ${JSON.stringify(data)},\n});`,
      cli: `printf '%s\\n' ${quoted(line)} | npx sluice publish${token} --ndjson -- ${quoted(base)} ${quoted(topic)}`,
    },
    read: {
      curl: `curl -N${header} ${quoted(after)}`,
      js: `${ticket}const events = new EventSource(${source});\nevents.addEventListener(${JSON.stringify(type)}, ({ data, lastEventId }) => console.log(lastEventId, data));`,
      cli: `npx sluice tail${token} --last-event-id ${quoted(id)} ${quoted(events)}`,
    },
  };
}

/**
 * As one word of a POSIX shell.
 *
 * @param {string} text
 */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
