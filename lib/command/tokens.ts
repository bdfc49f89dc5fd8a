// Collects the bearer tokens of a server from its options, from files and from the environment.
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
    ...(file === undefined ? [] : await tokensInFile(`--${action}-token-file ${file}`, file)),
    ...(text === undefined ? [] : tokensIn(variable, text)),
  ];
}

async function tokensInFile(source: string, file: string): Promise<string[]> {
  const text = await readFile(file, 'utf8').catch((error) => {
    throw new Error(`${source} cannot be read: ${error.message}`, { cause: error });
  });
  return tokensIn(source, text);
}

function tokensIn(source: string, text: string): string[] {
  const tokens = text.split(/\s+/).filter((token) => token !== '');
  if (tokens.length === 0) throw usageError(`${source} holds no token`);
  return tokens;
}
