// Reads bearer tokens: those of a server, from options, files and the environment, and that of a client.
// Needs `argv.ts` beside it.

import { readFile } from 'node:fs/promises';
import { usageError } from './argv.ts';

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

/**
 * Returns the value of `Authorization` of a client; `undefined` where it has no token. A variable of the
 * environment is not read: it would send the token to every server that a URL names.
 *
 * @throws {UsageError} for both options at once, and for anything but one word. No message shows the token.
 */
export async function bearerOf(values: {
  readonly token: string | undefined;
  readonly 'token-file': string | undefined;
}): Promise<string | undefined> {
  const { token, 'token-file': file } = values;
  if (token !== undefined && file !== undefined)
    throw usageError('--token and --token-file exclude each other');
  if (file !== undefined)
    return bearer(`--token-file ${file}`, (await readTokenFile('--token-file', file)).trim());
  return token === undefined ? undefined : bearer('--token', token);
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
