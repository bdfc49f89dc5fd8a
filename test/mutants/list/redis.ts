// Faults in the log in Redis, on a model of it that runs the scripts.

import { type Mutant, mutantsOf } from '../mutant.ts';

const CONTRACT = ['redis', 'redis.contract'] as const;

export const redis: readonly Mutant[] = [
  ...mutantsOf('redis-lua.ts', CONTRACT, [
    {
      find: 'dropped = e.prev, entry = e',
      replace: 'dropped = 0, entry = e',
      why: 'a reader that is behind what a topic has dropped is not told of it',
      property: 'what was lost of a topic is decidable',
    },
    {
      find: 'return { first = len, len = len, dropped = last }',
      replace: 'return { first = len, len = len, dropped = 0 }',
      why: 'a topic whose history was evicted seems to have lost nothing',
      property: 'what was lost of a topic is decidable',
    },
    {
      find: 'if meta.epoch and is_same and is_indexed and not is_ahead and',
      replace: 'if meta.epoch and is_indexed and',
      why: 'ids are given out twice after a replica took over that lacks the newest events',
      race: 'promotion with a lost tail, client ahead',
    },
    {
      find: "'head', '0', 'ends', meta.ends,",
      replace: "'head', '0', 'ends', '',",
      why: 'readers that have all of an epoch get a gap that says more than was lost',
      race: 'promotion with a lost tail, client ahead',
    },
  ]),
  ...mutantsOf('redis-script.ts', CONTRACT, [
    {
      find: "if asked ~= digest then return { 'CONFLICT' } end",
      replace: '',
      why: 'a request with the key of another one is taken for that one, and never published',
      property: 'a retried append publishes once',
    },
    {
      find: "if request ~= '' then keep_request(meta.epoch, result[1], result[2]) end",
      replace: '',
      why: 'a publisher that did not get the answer publishes twice',
      race: 'publisher retry after a time-out',
    },
    {
      find: "if topic.score and topic.score % 4 == 1 then topic.refusal = 'ENDED' end",
      replace: '',
      why: 'a topic that was ended on another node takes events',
      race: 'end of topic during replay',
    },
    {
      find: "  call('UNLINK', topic.list, topic.newest)\n    topic.last",
      replace: '  topic.last',
      why: 'events of an epoch that is over are read as those of the present one',
      race: 'promotion, then the head passes the client',
    },
    {
      find: 'if topic.score then prev = math.floor(topic.score / 4) end',
      replace: '',
      why: 'after a topic was deleted, readers with an older id are not told of a loss',
      property: 'what was lost of a topic is decidable',
    },
    {
      find: 'tonumber(newest) > source.entry.seq',
      replace: 'tonumber(newest) >= source.entry.seq',
      why: 'a conflating reader never gets the newest value of a key',
    },
    {
      find: 'if left < e.bytes and #entries > 0 then break end',
      replace: '',
      why: 'one read of a long history takes the whole of it',
      property: 'deep replays do not stall live',
    },
    {
      find: "ARGV[2] == '' and '-' or '(' .. ARGV[2]",
      replace: "ARGV[2] == '' and '-' or '[' .. ARGV[2]",
      why: 'each page of topics begins with the last one of the page before',
    },
    {
      find: "    call('HSET', META, 'floor', num(floor))\n",
      replace: '',
      why: 'a topic that was forgotten seems to have lost nothing',
      property: 'what was lost of a topic is decidable',
    },
  ]),
  ...mutantsOf('redis-follower.ts', CONTRACT, [
    {
      find: 'if (missing > seq) {',
      replace: 'if (missing > seq && entry === undefined) {',
      why: 'what was trimmed from the feed while a node was away is not skipped, and is never read',
      property: 'no hole unsaid',
      race: 'loss of the stream, of the metadata, of both',
    },
    {
      find: '      intake.back();\n',
      replace: '',
      why: 'a node that has come back refuses all appends',
      property: 'away is not gone',
    },
  ]),
  ...mutantsOf('redis.ts', CONTRACT, [
    {
      find: 'if (await reaching) return;',
      replace: 'return;',
      why: 'a reader that subscribes after its own append does not get the event',
      property: 'read your writes',
    },
    ...[
      {
        find: '    this.#appends.flush();\n    const limit',
        replace: '    const limit',
        why: 'a topic ends before events that were appended before its end',
      },
      {
        find: '      this.#appends.flush();\n      return',
        replace: '      return',
        why: 'what was appended with an idempotency key overtakes what was appended before it',
      },
    ].map((fault) => ({ ...fault, tests: ['redis.appends'] as const })),
  ]),
  ...mutantsOf(
    'redis-appends.ts',
    ['redis.appends'],
    [
      {
        find: 'if (known !== undefined && known.behind === undefined && behind === undefined) {',
        replace: 'if (known !== undefined) {',
        why: 'two writers append behind the same event in one turn',
        tests: ['redis.contract'],
      },
      {
        find: 'first: appended.first + offset',
        replace: 'first: appended.first',
        why: 'two publishers are answered the same id for two events',
        property: 'three outcomes of an append',
      },
      {
        find: 'this.#options.fits(topic, events, size)) return known',
        replace: 'true) return known',
        why: 'what publishers append in one turn pushes the first of it out of the history',
      },
      {
        find: 'if (known !== undefined || !this.#hasRoom(count, bytes)) this.flush();',
        replace: '',
        why: 'a turn in which much is published holds up Redis for all others',
      },
    ],
  ),
  ...mutantsOf('redis-connections.ts', CONTRACT, [
    {
      find: 'return outcomeUnknown(`Redis may have taken',
      replace: 'return logUnavailable(`Redis may have taken',
      why: 'a publisher is told that its event is certainly not published, and it is',
      property: 'three outcomes of an append',
    },
  ]),
  ...mutantsOf('redis-store.ts', CONTRACT, [
    {
      find: "key === undefined ? '' : JSON.stringify(key)",
      replace: "key ?? ''",
      why: 'a key with a line break in it breaks the history of its topic',
    },
  ]),
];
