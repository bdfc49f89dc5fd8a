// Reads bearer tokens from options, files and the environment: those of a server, and that in the headers of a client.
// Needs `argv.ts` beside it.

import { readFile } from 'node:fs/promises';
import { readHeaders, usageError } from './argv.ts';

/** The values of the options that give tokens. */
interface TokenOptions {
  readonly 'publish-token': readonly string[];
  readonly 'publish-token-file': string | undefined;
  readonly 'subscribe-token': readonly string[];
  readonly 'subscribe-token-file': string | undefined;
  readonly 'metrics-token': readonly string[];
  readonly 'metrics-token-file': string | undefined;
}

export interface Tokens {
  readonly publishTokens: readonly string[];
  readonly subscribeTokens: readonly string[];
  readonly metricsTokens: readonly string[];
}

/**
 * Collects the tokens of all sources.
 * @throws {UsageError} for a source without a token, which was most likely left empty by mistake.
 */
export async function readTokens(
  options: TokenOptions,
  env: Readonly<Record<string, string | undefined>>,
): Promise<Tokens> {
  return {
    publishTokens: await tokensFor('publish', options, env),
    subscribeTokens: await tokensFor('subscribe', options, env),
    metricsTokens: await tokensFor('metrics', options, env),
  };
}

/** The options of each command that sends requests, by which `requestHeaders` makes their headers. */
export const REQUEST_OPTIONS = {
  header: { kind: 'text', short: 'H', many: true },
  token: { kind: 'text' },
  'token-file': { kind: 'text', isFile: true },
} as const;

/** The lines about them in the help of a command. */
export const REQUEST_HELP = `\
  -H, --header 'NAME: VALUE'  send this header; may be repeated
      --token TOKEN           send Authorization: Bearer TOKEN; other users of this machine can see it, so prefer
                              --token-file or SLUICE_TOKEN
      --token-file FILE       the same from a file that holds the token alone`;

/** The line about their variable. */
export const REQUEST_ENVIRONMENT = `\
  SLUICE_TOKEN  the token, where neither an option nor a header gives one. It is sent to whichever server URL names:
                set it for one command, not for a whole shell`;

/**
 * Returns the headers that the options ask for, with lower-case names. A token of an option comes before
 * `--header 'Authorization: …'`, and that before the token of the environment.
 *
 * @throws {UsageError} for both options of the token at once, and for a token that is anything but one word. No
 * message shows it.
 */
export async function requestHeaders(
  values: {
    readonly header: readonly string[];
    readonly token: string | undefined;
    readonly 'token-file': string | undefined;
  },
  env: Readonly<Record<string, string | undefined>>,
): Promise<Record<string, string>> {
  const headers = readHeaders(values.header);
  const { token, 'token-file': file } = values;
  if (token !== undefined && file !== undefined)
    throw usageError('--token and --token-file exclude each other');
  if (token !== undefined) headers.authorization = bearer('--token', token);
  else if (file !== undefined)
    headers.authorization = bearer(
      `--token-file ${file}`,
      (await readTokenFile('--token-file', file)).trim(),
    );
  else if (env.SLUICE_TOKEN !== undefined) headers.authorization ??= bearer('SLUICE_TOKEN', env.SLUICE_TOKEN);
  return headers;
}

function bearer(source: string, token: string): string {
  if (/^[\x21-\x7e]+$/.test(token)) return `Bearer ${token}`;
  throw usageError(`${source} must be one word of printable ASCII`);
}

async function tokensFor(
  action: 'publish' | 'subscribe' | 'metrics',
  options: TokenOptions,
  env: Readonly<Record<string, string | undefined>>,
): Promise<string[]> {
  const listed = options[`${action}-token`];
  const file = options[`${action}-token-file`];
  const variable = `SLUICE_${action.toUpperCase()}_TOKEN`;
  const text = env[variable];
  if (listed.includes('')) throw usageError(`--${action}-token is empty`);
  return [
    ...listed,
    ...(file === undefined ? [] : await tokensInFile(`--${action}-token-file`, file)),
    ...(text === undefined ? [] : tokensIn(variable, text)),
  ];
}

async function tokensInFile(option: string, file: string): Promise<string[]> {
  return tokensIn(`${option} ${file}`, await readTokenFile(option, file));
}

function readTokenFile(option: string, file: string): Promise<string> {
  return readFile(file, 'utf8').catch((error) => {
    throw new Error(`${option} ${file} cannot be read: ${error.message}`, { cause: error });
  });
}

function tokensIn(source: string, text: string): string[] {
  const tokens = text.split(/\s+/).filter((token) => token !== '');
  if (tokens.length === 0) throw usageError(`${source} holds no token`);
  return tokens;
}
